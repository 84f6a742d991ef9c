"""Several commands share these options."""

import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from attncodec.errors import ConfigError

Name = TypeVar("Name", str, Path)
Given = TypeVar("Given", str, Path, list[Path])


def at_home(given: Given | None) -> Given | None:
    """Return a path, or several, with `~` at the start replaced, which a shell leaves as it is behind `--out=`.

    A file that has such a name, which `*` may have found, is meant itself.
    """
    if given is None:
        return None
    return [_at_home(path) for path in given] if isinstance(given, list) else _at_home(given)


def _at_home(name: Name) -> Name:
    return name if os.path.lexists(name) else type(name)(os.path.expanduser(name))


ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        callback=at_home,
        help="Model file, run folder, or name of a shipped model; default: the shipped one.",
    ),
]
DecoderOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", callback=at_home, help="Model file, or folder of model files, to search as well."),
]
OutOption = Annotated[
    str | None, typer.Option("--out", "-o", callback=at_home, help="Output file, folder, or - for stdout.")
]
EffortOption = Annotated[int, typer.Option(min=0, max=3, help="Refine the latents: 1 takes a second, 3 ten seconds.")]
FastOption = Annotated[
    bool, typer.Option("--fast", help="Run the transforms in bfloat16; pixels differ by at most 3 of 255.")
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Device of the transforms; auto is cuda where there is one.")
]
ThreadsOption = Annotated[int | None, typer.Option(help="Number of CPU threads; all cores by default.")]
TimingsOption = Annotated[bool, typer.Option("--timings", help="Show how many seconds each part took.")]
MaxPixelsOption = Annotated[
    int, typer.Option(min=1, help="Refuse larger pictures; sides count as rounded up to multiples of 64.")
]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing outputs.")]
SkipOption = Annotated[
    bool,
    typer.Option("--skip-existing", help="Keep outputs that are newer than their input, unless they are cut off."),
]
JobsOption = Annotated[
    int, typer.Option("--jobs", min=1, max=1024, help="Files at a time, each in a process of its own; 1 by default.")
]


def check_existing(force: bool, skip_existing: bool) -> None:
    """Raise ConfigError if existing outputs are to be both overwritten and skipped."""
    if force and skip_existing:
        raise ConfigError("--force and --skip-existing cannot be combined", "give one of them")


def timings(seconds: dict[str, float]) -> str:
    """Return the seconds that each part took, as text."""
    return "  " + ", ".join(f"{part} {spent:.3f} s" for part, spent in seconds.items())
