"""Several commands share these options."""

from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model file, run folder, or name of a shipped model; default: the shipped one."),
]
DecoderOption = Annotated[
    Path | None, typer.Option("--model", "-m", help="Model file, or folder of model files, to search as well.")
]
OutOption = Annotated[str | None, typer.Option("--out", "-o", help="Output file, folder, or - for stdout.")]
EffortOption = Annotated[int, typer.Option(min=0, max=3, help="Refine the latents: 1 takes a second, 3 ten seconds.")]
FastOption = Annotated[
    bool, typer.Option("--fast", help="Run the transforms in bfloat16; pixels differ by at most 3 of 255.")
]
ThreadsOption = Annotated[int | None, typer.Option(help="Number of CPU threads; all cores by default.")]
TimingsOption = Annotated[bool, typer.Option("--timings", help="Show how many seconds each part took.")]
MaxPixelsOption = Annotated[
    int, typer.Option(min=1, help="Refuse larger pictures; sides count as rounded up to multiples of 64.")
]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing outputs.")]


def timings(seconds: dict[str, float]) -> str:
    """Return the seconds that each part took, as text."""
    return "  " + ", ".join(f"{part} {spent:.3f} s" for part, spent in seconds.items())
