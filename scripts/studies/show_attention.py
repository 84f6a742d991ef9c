"""Show where a codec looks: a page of pictures of its attention, and of the bits that each place costs.

    python scripts/studies/show_attention.py IMG.png [--model FILE] [-q 4] [--at X,Y ...] [--out IMG.attention]

For a windowed attention block the page shows the weights of some queries (`--at`, in pixels) over the picture, averaged
over heads; for a gated block it shows the mask, averaged over channels. Beside the original it shows the bits of each
16 x 16 pixels as the entropy model counts them; the bits of z are spread over the pixels that it stands for. OUT gets a
PNG for each, and index.html.
"""

import argparse
import html
from pathlib import Path

import matplotlib
import numpy as np
import torch
from looking import Place, look
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import interpolate, pixel_shuffle

from attncodec.coding.encoder import DEFAULT_QUALITY
from attncodec.coding.find_model import choose_model, load_model
from attncodec.networks.bottleneck import Elements, RoundBottleneck
from attncodec.networks.context import CELL
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.priors import FactorisedPrior, SideInfo
from attncodec.networks.transforms import HYPER_STRIDE, STRIDE
from attncodec.pictures import RGB, read_rgb

matplotlib.use("Agg")
QUERIES = ((0.25, 0.25), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.75, 0.75))  # x and y are shares of its size
DIM = 0.45  # the picture keeps this share of its brightness where nothing is shown
ZOOM_TOKENS = 8  # a panel shows this many tokens around its query, each way


class BitsOfPlaces(RoundBottleneck):
    """A bottleneck that rounds, and keeps the bits of each element."""

    def __init__(self, codec: HyperpriorCodec) -> None:
        super().__init__()
        self.order = list(codec.prior.order)
        self.z_bits, self.steps = torch.zeros(0), list[Tensor]()

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        z_hat = super().send_z(prior, z, side)
        assert prior is not None
        self.z_bits = prior.bits(z_hat, side)
        return z_hat

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        y_hat = super().send_y(y, elements)
        symbols = (y_hat - elements.mean).round()
        self.steps.append(elements.bits(symbols.float(), elements.scale_index.float()) * elements.valid)
        return y_hat

    def of_places(self, height: int, width: int) -> Tensor:
        """Return the bits of each latent's place, (height, width); their sum is that of the picture."""
        bits = torch.cat(self.steps, dim=1).index_select(1, torch.cat(self.order).argsort())
        places = pixel_shuffle(bits, CELL).sum(1)[0, :height, :width]
        z = self.z_bits.sum(1, keepdim=True)
        spread = interpolate(z, scale_factor=HYPER_STRIDE, mode="nearest")[0, 0, :height, :width]
        return places + spread * (z.sum() / spread.sum())  # bits for places beyond the edge are shared out, too


def picture_of(axes: Axes, rgb: RGB, values: Tensor, stride: int) -> AxesImage:
    """Draw the values of a map over the dimmed picture; larger values are brighter."""
    height, width = rgb.shape[:2]
    axes.imshow((rgb * DIM).astype(np.uint8), extent=(0, width, height, 0))
    right, bottom = values.shape[1] * stride, values.shape[0] * stride
    top = float(values.max())
    shown = axes.imshow(
        values.float().numpy(), cmap="inferno", extent=(0, right, bottom, 0), interpolation="nearest", vmin=0, vmax=top
    )
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    return shown


def draw_weights(rgb: RGB, place: Place, queries: list[tuple[int, int]]) -> Figure:
    """Draw the whole picture with all queries, and the surroundings of each."""
    figure, panels = pyplot.subplots(1, 1 + len(queries), figsize=(4 * (1 + len(queries)), 4), layout="constrained")
    panels[0].imshow(rgb)
    panels[0].set(xticks=[], yticks=[], title="queries")
    for number, (axes, (x, y)) in enumerate(zip(panels[1:], queries, strict=True), 1):
        row, column = y // place.stride, x // place.stride
        seen = place.seen_from(row, column)
        shown = picture_of(axes, rgb, seen, place.stride)
        shown.set_alpha((seen > 0).float().numpy() * 0.75)
        left, top = column * place.stride, row * place.stride
        for target in (panels[0], axes):
            target.add_patch(Rectangle((left, top), place.stride, place.stride, fill=False, color="cyan"))
        panels[0].annotate(str(number), (left, top), color="cyan")
        reach = ZOOM_TOKENS * place.stride
        axes.set(title=f"{number}: at most {float(seen.max()):.3f}")
        axes.set(xlim=(left - reach, left + place.stride + reach), ylim=(top + place.stride + reach, top - reach))
    return figure


def draw_map(rgb: RGB, values: Tensor, stride: int, label: str) -> Figure:
    """Draw the original, and values beside it."""
    figure, (original, axes) = pyplot.subplots(1, 2, figsize=(13, 5), layout="constrained")
    original.imshow(rgb)
    original.set(xticks=[], yticks=[], title="original")
    figure.colorbar(picture_of(axes, rgb, values, stride), ax=axes, label=label)
    return figure


def draw(rgb: RGB, places: list[Place], bits: Tensor, queries: list[tuple[int, int]]) -> dict[str, Figure]:
    """Draw all figures, by caption."""
    figures = {f"bits: {float(bits.sum()) / 8:.0f} bytes": draw_map(rgb, bits, STRIDE, "bits of 16 x 16 pixels")}
    for place in places:
        if hasattr(place.block, "attend"):
            scorer = type(place.block.scorer).__name__.lower()
            figures[f"{place.name}: {scorer} weights"] = draw_weights(rgb, place, queries)
        else:
            figures[f"{place.name}: gated mask"] = draw_map(rgb, place.mask(), place.stride, "share let through")
    return figures


def save(out: Path, title: str, figures: dict[str, Figure]) -> None:
    """Write a PNG for each figure, and one page with all of them."""
    out.mkdir(parents=True, exist_ok=True)
    sections = []
    for caption, figure in figures.items():
        name = "".join(c if c.isalnum() else "-" for c in caption.split(": ")[0]).replace("--", "-") + ".png"
        figure.savefig(out / name, dpi=100)
        pyplot.close(figure)
        sections.append(f'<h2>{html.escape(caption)}</h2>\n<img src="{name}" style="max-width: 100%">')
    head = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    body = '<body style="font-family: sans-serif">'
    page = "\n".join([head, body, f"<h1>{html.escape(title)}</h1>", *sections, "</body></html>", ""])
    (out / "index.html").write_text(page, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", "-m", type=Path, help="model file or run folder; the shipped model by default")
    parser.add_argument("--quality", "-q", type=float)
    parser.add_argument("--at", nargs="+", metavar="X,Y", help="positions of the queries, in pixels")
    parser.add_argument("--out", "-o", type=Path)
    options = parser.parse_args()
    sealed = load_model(choose_model(options.model))
    rgb = read_rgb(options.picture)
    height, width = rgb.shape[:2]
    queries = [(int(x * width), int(y * height)) for x, y in QUERIES]
    if options.at:
        queries = [(int(x), int(y)) for x, y in (text.split(",") for text in options.at)]
        if not all(0 <= x < width and 0 <= y < height for x, y in queries):
            parser.error(f"--at is outside the picture of {width} x {height} pixels")
    quality = options.quality or min(DEFAULT_QUALITY, len(sealed.header.config.rd_lambdas))
    bottleneck = BitsOfPlaces(sealed.codec)
    places = look(sealed, rgb, sealed.quality_index(quality), bottleneck)
    bits = bottleneck.of_places(-(-height // STRIDE), -(-width // STRIDE))
    out = options.out or options.picture.with_suffix(".attention")
    save(out, f"{options.picture.name} at quality {quality:g}", draw(rgb, places, bits, queries))
    print(f"{out / 'index.html'}: {len(places)} attention blocks, {float(bits.sum()) / 8:.0f} bytes")


if __name__ == "__main__":
    main()
