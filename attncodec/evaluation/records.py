"""This module makes one record for each picture, measured on a real file."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.estimate import estimated_bits
from attncodec.coding.sealed import SealedCodec
from attncodec.container import pack
from attncodec.evaluation.classic import CLASSIC, COMPARED
from attncodec.evaluation.classic.search import smallest_file
from attncodec.evaluation.memory import peak_mib, reset_peak
from attncodec.metrics import METRICS, figures
from attncodec.metrics.rate import bpp
from attncodec.pictures import RGB, read_rgb
from attncodec.registry import contract


@dataclass(frozen=True)
class Record:
    """Holds the figures of a picture in a codec. `bpp` counts the whole file, `bpp_est` the estimated bits of z and y.

    `bpp_est`, the seconds and the memory are None for classic codecs, several of which run at once. `figures` has a
    value for each of METRICS. It is None if the metric is not defined: PSNR for equal pictures, MS-SSIM if a side is
    under 161 pixels.
    """

    codec: str
    quality: float  # This is the quality of the model, also for a classic codec that is compared with its file.
    name: str
    width: int
    height: int
    bytes: int
    bpp: float
    bpp_est: float | None
    figures: dict[str, float | None]
    encode_s: float | None
    decode_s: float | None
    peak_mib: float | None = None  # of the resident memory of the process
    variant: str = ""  # of a classic codec

    def row(self) -> dict[str, Any]:
        """Return all values by the name of their column, those of the metrics among the others.

        The order is the same for records that were kept, so that a run that goes on ends in the same files.
        """
        row: dict[str, Any] = {}
        for name, value in vars(self).items():
            row |= {metric: value[metric] for metric in METRICS} if name == "figures" else {name: value}
        return row


def evaluate_picture(sealed: SealedCodec, path: Path, name: str, quality: float, effort: int = 0) -> list[Record]:
    """Measure a picture with the model, then with each of COMPARED at no fewer bytes.

    Raises ImageError for the picture, and ConfigError for a metric or a classic codec that breaks its contract.
    """
    rgb = read_rgb(path)
    records = [measure_model(sealed, "attncodec", rgb, name, quality, effort)]
    for kind in COMPARED:
        with contract(f"the classic codec {kind!r}"):
            classic = smallest_file(CLASSIC[kind], rgb, records[0].bytes)
        if classic is not None:
            found = figures(rgb, classic.decoded)
            records.append(classic_record(kind, "", quality, rgb, name, len(classic.data), found))
    return records


def measure_model(sealed: SealedCodec, codec: str, rgb: RGB, name: str, quality: float, effort: int) -> Record:
    """Write a picture into a real file, read it back, and measure it. `codec` is what the model is called.

    Raises ConfigError for a metric that breaks its contract.
    """
    height, width = rgb.shape[:2]
    knows_peak = reset_peak()
    with tempfile.TemporaryDirectory(prefix="attncodec-") as folder:
        file = Path(folder) / "picture.atc"
        start = time.perf_counter()
        encoder = PictureEncoder(sealed, rgb, effort)
        container = encoder.encode(Target(quality=quality))
        file.write_bytes(pack(container))
        written = time.perf_counter()
        decoded = decompress(sealed, file.read_bytes())
        done = time.perf_counter()
        peak = peak_mib() if knows_peak else None
        size = file.stat().st_size
    return Record(
        codec,
        quality,
        name,
        width,
        height,
        size,
        bpp=bpp(size, width, height),
        figures=figures(rgb, decoded),
        encode_s=written - start,
        decode_s=done - written,
        peak_mib=peak,
        bpp_est=estimated_bits(encoder, container) / (height * width),
    )


def classic_record(
    codec: str, variant: str, quality: float, rgb: RGB, name: str, size: int, found: dict[str, float | None]
) -> Record:
    """Make the record of a picture in a file of a classic codec, by the figures that were found."""
    height, width = rgb.shape[:2]
    rate_bpp = bpp(size, width, height)
    return Record(codec, quality, name, width, height, size, rate_bpp, None, found, None, None, variant=variant)
