"""What a page shows, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attncodec.pictures import RGB

Bits = NDArray[np.float32]  # (h, w), for each 16 x 16 pixels


@dataclass(frozen=True)
class Axis:
    """What an axis of a plot measures, in which unit if it has one, and to how many decimals values are told."""

    title: str
    unit: str = ""
    decimals: int = 2
    log: bool = False


RATE = Axis("rate", "bits per pixel", 3, log=True)


@dataclass(frozen=True)
class Curve:
    """A curve of (x, y) points, most often of rate_bpp and quality_db.

    Published curves are drawn lighter. Curves that are not `drawn` are so only where a reader chooses them.
    """

    name: str
    points: Sequence[tuple[float, float]]
    published: bool = False
    drawn: bool = True


@dataclass(frozen=True)
class Plot:
    """Curves over the same axes, which are one choice of the plot's switch. Without `y`, this is the title in dB.

    Points that are not finite, or cannot stand on a log axis, are left out of the page.
    """

    title: str
    curves: Sequence[Curve]
    x: Axis = RATE
    y: Axis | None = None


@dataclass(frozen=True)
class BdRow:
    """How a codec compares with a reference. If there is no BD-rate, `reason` says why.

    `range_db` is the quality that both have, and `of` says of how many pictures median and worst are, if not of all.
    """

    codec: str
    reference: str
    quality: str
    rate_percent: float | None
    quality_db: float | None
    median_percent: float | None
    worst: str
    reason: str | None = None
    range_db: Sequence[float] | None = None
    of: str = ""


@dataclass(frozen=True)
class Cost:
    """What a codec costs: multiplications, parameters, seconds and memory. None is not known."""

    codec: str
    encode_kmac_per_pixel: float | None
    decode_kmac_per_pixel: float | None
    parameters: int | None
    encode_s: float | None
    decode_s: float | None
    peak_mib: float | None


@dataclass(frozen=True)
class Version:
    """A picture as a codec decodes it, (H, W, 3) uint8, and how many bytes its file has.

    `figures` has the metrics of METRICS. If a browser shows files of `media_type`, then `data` is the file, and the
    page holds it as it is. `bits` has the bits of y at each place of the latents.
    """

    codec: str
    setting: str
    rgb: RGB
    file_bytes: int
    figures: Mapping[str, float | None]
    data: bytes = b""
    media_type: str = ""
    bits: Bits | None = None


@dataclass(frozen=True)
class Comparison:
    """Versions of a picture of equal bytes or quality, ours first, and the square places where they differ most.

    A place is (left, top, side) in pixels. `missing` are the codecs that have no file as asked.
    """

    title: str
    versions: Sequence[Version]
    places: Sequence[tuple[int, int, int]]
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class PictureViews:
    """A picture, (H, W, 3) uint8, and the comparisons that are made of it."""

    name: str
    rgb: RGB
    comparisons: Sequence[Comparison]


@dataclass(frozen=True)
class Report:
    """All of a page. Parts that are empty are left out of it.

    `facts` are sentences below the title, and `bd_notes` below the BD-rates. `means` has a header, and rows as wide.
    """

    title: str
    facts: Sequence[str]
    pictures: Sequence[PictureViews]
    plots: Sequence[Plot] = ()
    bd: Sequence[BdRow] = ()
    costs: Sequence[Cost] = ()
    bd_notes: Sequence[str] = ()
    means: Sequence[Sequence[str]] = ()
