"""This module makes one record for each picture, measured on a real file, and summarises records."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.sealed import SealedCodec
from attncodec.container import pack
from attncodec.evaluation.classic import CLASSIC, COMPARED
from attncodec.evaluation.classic.search import smallest_file
from attncodec.metrics import METRICS, figures
from attncodec.metrics.contract import contract
from attncodec.metrics.rate import bpp
from attncodec.pictures import RGB, read_rgb


@dataclass(frozen=True)
class Record:
    """Holds the figures of a picture in a codec. `bpp` counts the whole file, `bpp_est` the estimated bits of z and y.

    `bpp_est` and the seconds are None for classic codecs. `figures` has a value for each of METRICS. It is None if the
    metric is not defined: PSNR for equal pictures, MS-SSIM if a side is under 161 pixels.
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

    def row(self) -> dict[str, Any]:
        """Return all values by the name of their column, those of the metrics among the others."""
        row: dict[str, Any] = {}
        for name, value in vars(self).items():
            row |= value if name == "figures" else {name: value}
        return row


MEANS = ("bpp", "bpp_est", *METRICS, "encode_s", "decode_s")


def evaluate_picture(sealed: SealedCodec, path: Path, name: str, quality: float, effort: int = 0) -> list[Record]:
    """Measure a picture with the model, then with each classic codec at no fewer bytes.

    Raises ImageError for the picture, and ConfigError for a metric or a classic codec that breaks its contract.
    """
    rgb = read_rgb(path)
    with tempfile.TemporaryDirectory(prefix="attncodec-") as folder:
        file = Path(folder) / "picture.atc"
        start = time.perf_counter()
        encoder = PictureEncoder(sealed, rgb, effort)
        container = encoder.encode(Target(quality=quality))
        file.write_bytes(pack(container))
        written = time.perf_counter()
        decoded = decompress(sealed, file.read_bytes())
        done = time.perf_counter()
        size = file.stat().st_size
    estimate = encoder.reconstruct(container)[1] / (rgb.shape[0] * rgb.shape[1])
    seconds = (written - start, done - written)
    records = [_record("attncodec", name, quality, rgb, decoded, size, estimate, *seconds)]
    for kind in COMPARED:
        with contract(f"the classic codec {kind!r}"):
            classic = smallest_file(CLASSIC[kind], rgb, size)
        if classic is not None:
            records.append(_record(kind, name, quality, rgb, classic.decoded, len(classic.data)))
    return records


def _record(
    codec: str,
    name: str,
    quality: float,
    rgb: RGB,
    decoded: RGB,
    size: int,
    bpp_est: float | None = None,
    encode_s: float | None = None,
    decode_s: float | None = None,
) -> Record:
    height, width = rgb.shape[:2]
    return Record(
        codec,
        quality,
        name,
        width,
        height,
        size,
        bpp(size, width, height),
        bpp_est,
        figures(rgb, decoded),
        encode_s,
        decode_s,
    )


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Make a point of a rate-distortion curve from the records of one codec and quality.

    It holds the mean of each figure over the pictures that have the figure, and the figures of each picture.
    """
    point: dict[str, Any] = {"quality": records[0].quality if records else None}
    rows = [record.row() for record in records]
    for figure in MEANS:
        values = [value for row in rows if (value := row[figure]) is not None]
        point[figure] = statistics.fmean(values) if values else None
    point["images"] = [{key: value for key, value in row.items() if key not in ("codec", "quality")} for row in rows]
    return point
