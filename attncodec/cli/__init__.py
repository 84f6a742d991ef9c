"""The command line has one file per command. Heavy imports are inside the commands, so that --help answers at once."""

from typing import Annotated, NoReturn

import typer

from attncodec import __version__
from attncodec.cli.compress import compress
from attncodec.cli.decompress import decompress
from attncodec.cli.evaluate import evaluate
from attncodec.cli.info import info
from attncodec.cli.seal import seal
from attncodec.cli.train import train
from attncodec.console import run

app = typer.Typer(
    name="attncodec",
    help="Train, measure and use learned image codecs with attention.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        print(f"attncodec {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (train, seal, compress, decompress, info):
    app.command()(command)
app.command(name="eval")(evaluate)


def main() -> NoReturn:
    """Run the console script."""
    run(app)
