"""The command `attncodec compare`."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attncodec.cli.options import (
    DeviceOption,
    EffortOption,
    FastOption,
    ForceOption,
    ModelOption,
    ThreadsOption,
    at_home,
)
from attncodec.errors import ConfigError

if TYPE_CHECKING:
    from attncodec.evaluation.page import PictureViews

logger = logging.getLogger(__name__)

HTML, PNG = ".html", ".png"


def compare(
    picture: Annotated[Path, typer.Argument(help="A picture.", callback=at_home)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", callback=at_home, help="A page, .html, or a picture, .png; a page by default."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--with", help="Classic codecs: jpeg, webp, avif, jpegxl, or none; jpeg,webp by default."),
    ] = None,
    model: ModelOption = None,
    quality: Annotated[float | None, typer.Option("--quality", "-q", help="Quality, 1 to 8; 4 by default.")] = None,
    target_bytes: Annotated[int | None, typer.Option(help="Compare files of this many bytes.")] = None,
    target_psnr: Annotated[float | None, typer.Option(help="Compare the smallest files of this many dB.")] = None,
    effort: EffortOption = 0,
    fast: FastOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    force: ForceOption = False,
) -> None:
    """Show a picture beside what is left of it in this codec and in classic ones, at equal bytes or equal quality."""
    from attncodec.api import Target, set_threads
    from attncodec.coding.find_model import choose_model, load_model
    from attncodec.device import resolve_device
    from attncodec.evaluation.job import chosen_against
    from attncodec.evaluation.page import PictureViews
    from attncodec.evaluation.page.embed import SIDE_MAX
    from attncodec.evaluation.page.views import compare_picture
    from attncodec.files import check_writable
    from attncodec.pictures import read_rgb

    set_threads(threads)
    target, kinds = Target(quality, bytes=target_bytes, psnr_db=target_psnr), chosen_against(against, "--with")
    out = out or Path(f"{picture.stem}.compare{HTML}")
    if out.suffix.lower() not in (HTML, PNG):
        raise ConfigError(f"{out} is neither a page nor a picture", f"give -o a name that ends in {HTML} or {PNG}")
    check_writable([out], force)
    if out.exists() and picture.exists() and out.samefile(picture):
        raise ConfigError(f"{out} is the picture itself", "give -o another name")
    rgb, chosen = read_rgb(picture), choose_model(model)
    if max(rgb.shape) > SIDE_MAX and out.suffix.lower() == HTML:
        raise ConfigError(
            f"{picture} has a side of {max(rgb.shape)} pixels, and a page shows at most {SIDE_MAX}",
            f"give -o a name that ends in {PNG}, or cut a part out of the picture first",
        )
    logger.info("model: %s", chosen)
    sealed = load_model(chosen, fast, resolve_device(device))
    found = compare_picture({"attncodec": sealed}, rgb, target, kinds, effort)
    _write(out, PictureViews(picture.name, rgb, [found]))
    for version in found.versions:
        value = version.figures["psnr_db"]
        shown = "lossless" if value is None else f"{value:.2f} dB"
        print(f"{version.codec}, {version.setting}: {version.file_bytes} bytes  {shown}")
    left_out = [kind for kind in kinds if kind not in [version.codec for version in found.versions]]
    if left_out:
        logger.info("note: left out, because no file of it is as asked: %s", ", ".join(left_out))
    print(out)


def _write(out: Path, views: "PictureViews") -> None:
    """Write what the suffix says."""
    from attncodec.evaluation.page import Report, render
    from attncodec.evaluation.page.montage import montage
    from attncodec.files import write_output
    from attncodec.pictures import encode_rgb

    if out.suffix.lower() == PNG:
        write_output(out, encode_rgb(montage(views), PNG))
    else:
        fact = "Classic codecs have the smallest file that meets what was asked for, or that has no fewer bytes."
        write_output(out, render(Report(views.name, [fact], [views])).encode(errors="replace"))
