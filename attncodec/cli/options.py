"""Several commands share these options."""

from pathlib import Path
from typing import Annotated

import typer

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


def timings(seconds: dict[str, float]) -> str:
    """Return the seconds that each part took, as text."""
    return "  " + ", ".join(f"{part} {spent:.3f} s" for part, spent in seconds.items())
