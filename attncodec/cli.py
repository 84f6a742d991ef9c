"""The command line. Heavy imports stand inside the commands, so that --help answers at once.

Exit codes: 0 done; 1 finished, but some files failed or a check did not hold; 2 could not be done as asked; 130
interrupted.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from attncodec import __version__
from attncodec.errors import AttncodecError, ConfigError, ImageError

DONE, FAILURES, REFUSED, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="attncodec",
    help="Train, measure and use learned image codecs with attention.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ModelOption = Annotated[
    Path | None, typer.Option("--model", "-m", help="Model file or run folder; the newest of runs/* if not given.")
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Output file, folder, or - for stdout.")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite outputs that exist.")]


def main() -> NoReturn:
    """The console script: every outcome is an exit code, every error one line and a hint."""
    debug = "--debug" in sys.argv
    try:
        sys.exit(app(standalone_mode=False) or DONE)
    except typer.TyperException as error:
        fail(AttncodecError(error.format_message(), f"{_command()} --help lists what can be given"))
        sys.exit(REFUSED)
    except AttncodecError as error:
        if debug:
            raise
        fail(error)
        sys.exit(REFUSED)
    except OSError as error:
        if debug:
            raise
        if error.filename is None:  # stdout is full or closed: Python would try, and complain, again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(os_error(error))
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(INTERRUPTED)


def _command() -> str:
    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    return " ".join(["attncodec", *(argument for argument in sys.argv[1:2] if argument in names)])


def os_error(error: OSError) -> AttncodecError:
    """What the operating system refused (no space, no right to write) as one of our errors."""
    where = f"{error.filename}: " if error.filename else ""
    return AttncodecError(f"{where}{error.strerror or error}", "see whether there is space, and the right to write")


def say(text: str) -> None:
    """A line for the user; stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def fail(error: AttncodecError, name: str = "") -> None:
    """The `error:` and `hint:` lines."""
    say(f"error: {name + ': ' if name and name not in str(error) else ''}{error}")
    if error.hint:
        say(f"hint: {error.hint}")


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


@app.command()
def train(
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML file; shipped ones lie in configs/.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="data.train=FOLDER train.budget=20m ...")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; runs/<config name> by default.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Begin the run anew.")] = False,
    extend: Annotated[str | None, typer.Option(help="Train on for so much longer: 2h, or steps.")] = None,
) -> None:
    """Train a codec on a folder of pictures. The same command again resumes; Ctrl-C saves first."""
    from attncodec.config import Budget, load_config

    resolved = load_config(config, overrides or [])
    if not resolved.data.train:
        raise ConfigError("data.train is not set", "name a folder of pictures: data.train=photos/")
    if restart and extend:
        raise ConfigError("--restart begins anew and --extend goes on", "give one of them")
    try:
        extension = Budget.parse(extend) if extend else None
    except ValueError as error:
        raise ConfigError(f"--extend {extend}: {error}") from None
    from attncodec.training.device import resolve_device
    from attncodec.training.loop import train as run

    folder = out or Path("runs") / config.stem
    outcome = run(resolved, folder, resolve_device(device), restart, extension, say)
    progress, model = outcome.progress, outcome.folder.model
    if not outcome.trained:
        say(f"{folder} is finished: {progress.step} steps; model in {model}")
        say("hint: --extend 2h trains on, --restart begins anew")
    elif progress.finished:
        say(f"finished after {progress.step} steps; model sealed into {model}")
        say(f"next: attncodec eval FOLDER --model {model}")
    else:
        say(f"stopped at step {progress.step}; saved, and sealed as it stands into {model}")
        say("hint: the same command goes on from here")
        raise typer.Exit(INTERRUPTED)


@app.command()
def seal(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint: RUN/checkpoints/best.safetensors.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.")],
    force: ForceOption = False,
) -> None:
    """Make a model file of a training checkpoint."""
    from attncodec.files import check_writable
    from attncodec.training.checkpoint import load_checkpoint, seal_checkpoint

    check_writable([out], force)
    sealed = seal_checkpoint(load_checkpoint(checkpoint))
    sealed.save(out)
    print(f"{checkpoint} -> {out}  {out.stat().st_size} bytes, model {sealed.header.digest.hex()}")


@app.command()
def compress(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, or - for stdin.")],
    out: OutOption = None,
    model: ModelOption = None,
    verify: Annotated[bool, typer.Option("--verify", help="Decode what was written, and compare.")] = False,
    force: ForceOption = False,
) -> None:
    """Compress pictures into .atc files."""
    from attncodec.api import choose_model, load
    from attncodec.files import plan_outputs, read_input, write_output
    from attncodec.images import read_rgb
    from attncodec.metrics import bpp, psnr_db

    outputs, notes = plan_outputs(inputs, out, ".atc", force)
    chosen = choose_model(model)
    codec = load(chosen)
    if model is None:
        say(f"model: {chosen}")

    def run(source: Path, target: Path) -> str:
        rgb = read_rgb(source)
        data = codec.compress(rgb)
        write_output(target, data)
        height, width = rgb.shape[:2]
        summary = f"{len(data)} bytes  {bpp(len(data), width, height):.4f} bpp"
        if verify:
            decoded = codec.decompress(data if str(target) == "-" else read_input(target))
            if (decoded != codec.reconstruct(rgb)[0]).any():
                raise AttncodecError("the written file decodes to another picture than was encoded")
            quality = psnr_db(rgb, decoded)
            summary += "  verified, " + ("lossless" if quality is None else f"{quality:.2f} dB")
        return summary

    for note in notes:
        say(f"note: {note}")
    _each(inputs, outputs, run)


@app.command()
def decompress(
    inputs: Annotated[list[Path], typer.Argument(help=".atc files, or - for stdin.")],
    out: OutOption = None,
    model: ModelOption = None,
    force: ForceOption = False,
) -> None:
    """Decompress .atc files into pictures: PNG, unless the suffix of -o says otherwise."""
    from attncodec.api import ModelCache
    from attncodec.files import STREAM, plan_outputs, read_input, write_output
    from attncodec.images import check_suffix, encode_rgb

    outputs, notes = plan_outputs(inputs, out, ".png", force)
    for output in outputs:
        check_suffix(output)
    models = ModelCache(model)

    def run(source: Path, target: Path) -> str:
        data = read_input(source)
        rgb = models.codec_for(data).decompress(data)
        write_output(target, encode_rgb(rgb, ".png" if target == STREAM else target.suffix))
        return f"{rgb.shape[1]} x {rgb.shape[0]}"

    for note in notes:
        say(f"note: {note}")
    _each(inputs, outputs, run)


def _each(inputs: Sequence[Path], outputs: Sequence[Path], run: Callable[[Path, Path], str]) -> None:
    """Run on each file, and tell of each: one that fails is named and the others go on, exit 1; where the only one or
    all of them fail, exit 2."""
    failed = 0
    for source, target in zip(inputs, outputs, strict=True):
        try:
            summary = run(source, target)
        except (AttncodecError, OSError) as error:
            if len(inputs) == 1:
                raise
            failed += 1
            fail(error if isinstance(error, AttncodecError) else os_error(error), str(source))
        else:
            print(f"{source} -> {target}  {summary}", file=sys.stderr if str(target) == "-" else sys.stdout)
    if failed:
        say(f"{failed} of {len(inputs)} files failed")
        raise typer.Exit(FAILURES if failed < len(inputs) else REFUSED)


@app.command()
def info(file: Annotated[Path, typer.Argument(help="An .atc file, or a model file.")]) -> None:
    """Say what is in an .atc file or a model file."""
    from attncodec.api import describe_file

    for name, value in describe_file(file).items():
        print(f"{name:<14} {value}")


@app.command(name="eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures, searched to the bottom.")],
    model: ModelOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where images.csv and run.json go.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print nothing but JSON on stdout.")] = False,
) -> None:
    """Measure a model on a folder of pictures, through real files, beside JPEG and WebP."""
    from attncodec.api import choose_model, load
    from attncodec.evaluation import records, report
    from attncodec.images import find_pictures

    paths = find_pictures(folder)
    chosen = choose_model(model)
    codec = load(chosen)
    say(f"model: {chosen}")
    results, failed = [], 0
    for path in _with_bar(paths):
        try:
            results += records.evaluate_picture(codec, path, path.relative_to(folder).as_posix())
        except (ImageError, OSError) as error:
            failed += 1
            fail(error if isinstance(error, AttncodecError) else os_error(error), str(path))
    if not results:
        raise ImageError(f"none of the {len(paths)} pictures under {folder} could be measured")
    target = out or Path("runs") / "eval" / f"{folder.resolve().name}-{codec.header.digest.hex()[:8]}"
    report.save(target, codec, chosen, folder, results)
    if as_json:
        print(json.dumps(report.as_json(codec, chosen, results), allow_nan=False))
    else:
        print(report.table(results))
    say(f"written: {target}/images.csv, {target}/run.json")
    if failed:
        say(f"{failed} of {len(paths)} pictures failed")
        raise typer.Exit(FAILURES)


def _with_bar(paths: Sequence[Path]) -> Iterable[Path]:
    from tqdm import tqdm

    return tqdm(paths, desc="measuring", unit="picture", disable=not sys.stderr.isatty(), leave=False)
