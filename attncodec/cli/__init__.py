"""The command line has one file per command. Heavy imports are inside the commands, so that --help answers at once."""

import logging
from typing import Annotated, NoReturn

import typer

from attncodec.cli.compare import compare
from attncodec.cli.compress import compress
from attncodec.cli.decompress import decompress
from attncodec.cli.evaluate import evaluate
from attncodec.cli.info import info
from attncodec.cli.seal import seal
from attncodec.cli.train import list_configs, train
from attncodec.console import run
from attncodec.version import __version__

app = typer.Typer(
    name="attncodec",
    help="Train, measure and use learned image codecs with attention.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors and results only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        print(f"attncodec {__version__}")
        raise typer.Exit
    if quiet:
        logging.getLogger("attncodec").setLevel(logging.WARNING)
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (seal, compress, decompress, info, compare):
    app.command()(command)
app.command(epilog=list_configs())(train)
app.command(name="eval")(evaluate)


def main() -> NoReturn:
    """Run the console script."""
    run(app)
