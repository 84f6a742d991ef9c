"""The command line. Heavy imports stand inside the commands, so that --help answers at once."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from attncodec import __version__
from attncodec.console import FAILURES, INTERRUPTED, process_files, fail, as_user_error, run, say
from attncodec.errors import AttncodecError, CheckError, ConfigError, ContainerError, ImageError

if TYPE_CHECKING:
    from attncodec.distributed import Distributed

app = typer.Typer(
    name="attncodec",
    help="Train, measure and use learned image codecs with attention.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ModelOption = Annotated[
    Path | None, typer.Option("--model", "-m", help="Model file, run folder, or shipped model (default) by name.")
]
DecoderOption = Annotated[
    Path | None, typer.Option("--model", "-m", help="Model file, or folder of them, to look in as well.")
]
OutOption = Annotated[str | None, typer.Option("--out", "-o", help="Output file, folder, or - for stdout.")]
EffortOption = Annotated[int, typer.Option(min=0, max=3, help="Refine the latents: 1 takes a second, 3 ten seconds.")]
FastOption = Annotated[bool, typer.Option("--fast", help="Transforms in bfloat16: pixels differ by 3 of 255 at most.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores if not given.")]
TimingsOption = Annotated[bool, typer.Option("--timings", help="Say where the time went.")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite outputs that exist.")]


def main() -> NoReturn:
    """The console script."""
    run(app)


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
    dry: Annotated[bool, typer.Option("--dry-run", help="Run a few steps, say what it takes, write nothing.")] = False,
) -> None:
    """Train a codec on a folder of pictures. The same command again resumes; Ctrl-C saves first."""
    from attncodec.budget import budget_of_option
    from attncodec.config import load_config

    resolved = load_config(config, overrides or [])
    if not resolved.data.train:
        raise ConfigError("data.train is not set", "name a folder of pictures: data.train=photos/")
    if restart and extend:
        raise ConfigError("--restart begins anew and --extend goes on", "give one of them")
    extension = budget_of_option("--extend", extend)
    from attncodec.distributed import process_group_of_torchrun
    from attncodec.training.device import resolve_device

    if dry:
        from attncodec.training.dryrun import dry_run

        for name, value in dry_run(resolved, resolve_device(device), say).items():
            print(f"{name:<14} {value}")
        return
    from attncodec.training.loop import train as train_run

    folder, chosen = out or Path("runs") / config.stem, resolve_device(device)
    with process_group_of_torchrun(chosen.type) as distributed:
        tell = say if distributed.is_rank0 else _say_nothing
        outcome = train_run(resolved, folder, chosen, restart, extension, tell, distributed)
    progress, model = outcome.progress, outcome.folder.model
    if not outcome.trained:
        tell(f"{folder} is finished: {progress.step} steps; model in {model}")
        tell("hint: --extend 2h trains on, --restart begins anew")
    elif progress.finished:
        tell(f"finished after {progress.step} steps; model sealed into {model}")
        tell(f"next: attncodec eval FOLDER --model {model}")
    else:
        tell(f"stopped at step {progress.step}; saved, and sealed into {model}, its tables analytic")
        tell("hint: the same command goes on from here")
        if distributed.size == 1:  # torchrun would take it for a failure, and start all again
            raise typer.Exit(INTERRUPTED)


@app.command()
def seal(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint: RUN/checkpoints/best.safetensors.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.")],
    force: ForceOption = False,
) -> None:
    """Make a model file of a training checkpoint, its tables measured on the pictures that it was trained on."""
    from attncodec.files import STREAM, check_writable
    from attncodec.training.setup import pictures_to_measure
    from attncodec.training.checkpoint import load_checkpoint, seal_checkpoint

    if out == STREAM:
        raise ConfigError("a model cannot be written to stdout", "give -o the name of a file")
    check_writable([out], force)
    loaded = load_checkpoint(checkpoint)
    sealed = seal_checkpoint(loaded, pictures_to_measure(loaded.config, checkpoint, say))
    sealed.save(out)
    print(f"{checkpoint} -> {out}  {out.stat().st_size} bytes, model {sealed.header.decoder_id.hex()}")


@app.command()
def compress(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, folders of them, or - for stdin.", readable=False)],
    out: OutOption = None,
    model: ModelOption = None,
    quality: Annotated[float | None, typer.Option("--quality", "-q", help="1 to 8; 4 by default.")] = None,
    target_bpp: Annotated[float | None, typer.Option(help="The best file of at most so many bits a pixel.")] = None,
    target_bytes: Annotated[int | None, typer.Option(help="The best file of at most so many bytes.")] = None,
    target_psnr: Annotated[float | None, typer.Option(help="The smallest file of at least so many dB.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Decode what was written, and compare.")] = False,
    effort: EffortOption = 0,
    latents: Annotated[bool, typer.Option("--latents", help="Print the SHA-256 of the integer latents.")] = False,
    timings: TimingsOption = False,
    fast: FastOption = False,
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """Compress pictures into .atc files."""
    from attncodec.api import choose_model, load, set_threads
    from attncodec.files import STREAM, plan_outputs, read_input, write_output
    from attncodec.images import SUFFIXES, read_rgb
    from attncodec.metrics import bpp, psnr_db
    from attncodec.coding.encoder import PictureEncoder, Target
    from attncodec.distributed import process_group_of_torchrun

    if sum(value is not None for value in (quality, target_bpp, target_bytes, target_psnr)) > 1:
        raise ConfigError("a quality and a target, or several targets, cannot be met at once", "give one of them")
    wish = Target(quality, target_bytes, target_bpp, target_psnr)

    def one(source: Path, target: Path) -> str:
        rgb = read_rgb(source)
        encoding = PictureEncoder(codec, rgb, effort)
        data = encoding.find(wish)
        write_output(target, data)
        height, width = rgb.shape[:2]
        summary = f"{encoding.latents_sha256}  " if latents else ""
        summary += f"{len(data)} bytes  {bpp(len(data), width, height):.4f} bpp"
        if verify:
            try:
                decoded = codec.decompress(data if target == STREAM else read_input(target))
            except ContainerError as error:
                raise CheckError(f"{target} does not decode: {error}") from None
            if (decoded != encoding.reconstruct(data)[0]).any():
                raise CheckError(f"{target} decodes to another picture than was encoded")
            quality = psnr_db(rgb, decoded)
            summary += "  verified, " + ("lossless" if quality is None else f"{quality:.2f} dB")
        return summary + (_timings(codec.stopwatch.take()) if timings else "")

    with process_group_of_torchrun() as distributed:
        files, outputs, notes = distributed.run_on_rank0(lambda: plan_outputs(inputs, out, SUFFIXES, ".atc", force))
        chosen = distributed.run_on_rank0(lambda: choose_model(model))
        set_threads(threads)
        codec = load(chosen, fast)
        if distributed.is_rank0 and model is None:
            say(f"model: {chosen}")
        _tell(notes, distributed)
        process_files(files, outputs, one, distributed)


@app.command()
def decompress(
    inputs: Annotated[list[Path], typer.Argument(help=".atc files, folders, or - for stdin.", readable=False)],
    out: OutOption = None,
    model: DecoderOption = None,
    timings: TimingsOption = False,
    fast: FastOption = False,
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """Decompress .atc files into pictures: PNG, unless the suffix of -o says otherwise."""
    from attncodec.api import ModelCache, set_threads
    from attncodec.files import STREAM, plan_outputs, read_input, write_output
    from attncodec.images import check_suffix, encode_rgb
    from attncodec.distributed import process_group_of_torchrun

    set_threads(threads)
    models = ModelCache(model, fast)

    def one(source: Path, target: Path) -> str:
        data = read_input(source)
        codec = models.codec_for(data)
        rgb = codec.decompress(data)
        write_output(target, encode_rgb(rgb, ".png" if target == STREAM else target.suffix))
        return f"{rgb.shape[1]} x {rgb.shape[0]}" + (_timings(codec.stopwatch.take()) if timings else "")

    with process_group_of_torchrun() as distributed:
        files, outputs, notes = distributed.run_on_rank0(lambda: plan_outputs(inputs, out, (".atc",), ".png", force))
        for output in outputs:
            check_suffix(output)
        _tell(notes, distributed)
        process_files(files, outputs, one, distributed)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="An .atc file, or a model file.")],
    latents: Annotated[
        bool, typer.Option("--latents", help="Print the SHA-256 of an .atc file's decoded integer latents.")
    ] = False,
    model: DecoderOption = None,
) -> None:
    """Say what is in an .atc file or a model file."""
    from attncodec.api import ModelCache, describe_file, latents_sha256
    from attncodec.files import read_input

    if latents:
        print(latents_sha256(read_input(file), ModelCache(model)))
        return
    for name, value in describe_file(file).items():
        print(f"{name:<14} {value}")


@app.command(name="eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures, searched to the bottom.")],
    quality: Annotated[
        list[float] | None, typer.Option("--quality", "-q", help="May be given several times; whole levels if not.")
    ] = None,
    model: ModelOption = None,
    effort: EffortOption = 0,
    fast: FastOption = False,
    threads: ThreadsOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where images.csv and run.json go.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print nothing but JSON on stdout.")] = False,
) -> None:
    """Measure a model on a folder of pictures, through real files, beside JPEG and WebP."""
    from attncodec.api import choose_model, load, set_threads
    from attncodec.evaluation import records, report
    from attncodec.images import find_pictures
    from attncodec.distributed import process_group_of_torchrun

    paths = find_pictures(folder)
    set_threads(threads)
    with process_group_of_torchrun() as distributed:
        chosen = distributed.run_on_rank0(lambda: choose_model(model))
        codec = load(chosen, fast)
        qualities = sorted(set(quality or range(1, len(codec.header.config.rd_lambdas) + 1)))
        for wanted in qualities:
            codec.quality_index(wanted)  # refused before anything is measured
        target = out or Path("runs") / "eval" / f"{folder.resolve().name}-{codec.header.decoder_id.hex()[:8]}"
        target.mkdir(parents=True, exist_ok=True)  # before the work, not after it
        if distributed.is_rank0:
            say(f"model: {chosen}")

        def measure(path: Path) -> list[records.Record]:
            name = path.relative_to(folder).as_posix()
            try:
                return [r for wanted in qualities for r in records.evaluate_picture(codec, path, name, wanted, effort)]
            except (AttncodecError, OSError) as error:
                fail(as_user_error(error), str(path))
                return []

        found = distributed.gather([measure(path) for path in _with_bar(distributed.shard(paths), distributed.is_rank0)])
        failed = found.count([])

        def conclude() -> None:
            results = [record for part in found for record in part]
            if not results:
                raise ImageError(f"none of the {len(paths)} pictures under {folder} could be measured")
            if as_json:
                print(json.dumps(report.as_json(codec, chosen, results), allow_nan=False))
            else:
                print(report.table(results))
            report.save(target, codec, chosen, folder, results)
            say(f"written: {target}/images.csv, {target}/run.json")
            if failed:
                say(f"{failed} of {len(paths)} pictures failed")

        distributed.run_on_rank0(conclude)
    if failed:
        raise typer.Exit(FAILURES)


def _say_nothing(text: str) -> None:
    """What a process beside the lead of a team says."""


def _tell(notes: Sequence[str], distributed: "Distributed") -> None:
    for note in notes if distributed.is_rank0 else []:
        say(f"note: {note}")


def _timings(seconds: dict[str, float]) -> str:
    return "  " + ", ".join(f"{part} {spent:.3f} s" for part, spent in seconds.items())


def _with_bar(paths: Sequence[Path], shown: bool) -> Iterable[Path]:
    from tqdm import tqdm

    return tqdm(paths, desc="measuring", unit="picture", disable=not (shown and sys.stderr.isatty()), leave=False)
