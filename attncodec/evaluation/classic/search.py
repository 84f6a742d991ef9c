"""This module finds the files of classic codecs that are compared with those of a model, and measures their curves."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np

from attncodec.errors import ConfigError
from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.classic.codec import ClassicCodec, Variant
from attncodec.metrics.psnr import psnr_db, psnr_for_means_db
from attncodec.metrics.rate import Curve, bpp, rising
from attncodec.pictures import RGB
from attncodec.registry import BrokenContractError, contract

logger = logging.getLogger(__name__)

QUALITIES = range(1, 101)
CURVE_QUALITIES = (5, 20, 40, 60, 80, 92)
Sizes = Mapping[str, Mapping[int, int]]  # bytes of files by variant and quality


@dataclass(frozen=True)
class ClassicFile:
    """Holds the file of a picture in a classic codec, and the picture that it decodes to."""

    data: bytes
    quality: int
    decoded: RGB


def smallest_file(codec: ClassicCodec, rgb: RGB, at_least_bytes: int, known: Sizes | None = None) -> ClassicFile | None:
    """Find the file of the lowest quality that has at least `at_least_bytes`, in the variant with the best PSNR.

    So a classic codec gets no fewer bytes than the codec it is compared with, unless its largest file, that of the
    highest quality, has fewer. `known` sizes of files shorten the search, to their variants as well. Returns None if
    there is no file. Raises BrokenContractError, or what the codec raises, if the codec fails.
    """
    sizes = known or {name: {} for name in codec.variants}
    files = [_smallest(codec, rgb, at_least_bytes, codec.variants[name], sizes[name]) for name in sizes]
    return max((file for file in files if file), key=lambda file: _psnr_db(rgb, file.decoded), default=None)


def _psnr_db(a: RGB, b: RGB) -> float:
    quality_db = psnr_db(a, b)
    return math.inf if quality_db is None else quality_db


def _smallest(
    codec: ClassicCodec, rgb: RGB, at_least_bytes: int, variant: Variant, known: Mapping[int, int]
) -> ClassicFile | None:
    files, sizes = dict[int, bytes | None](), dict(known)

    def encode(quality: int) -> bytes | None:
        if quality not in files:
            files[quality] = data = codec.encode(rgb, quality, variant)
            sizes[quality] = 0 if data is None else len(data)
        return files[quality]

    low = max((quality + 1 for quality, size in known.items() if size < at_least_bytes), default=QUALITIES[0])
    high = min((quality for quality, size in known.items() if size >= at_least_bytes), default=QUALITIES[-1])
    while low < high:
        middle = _between(sizes, low, high, at_least_bytes)
        data = encode(middle)
        if data is None:
            return None
        if len(data) >= at_least_bytes:
            high = middle
        else:
            low = middle + 1
    data = encode(low)
    while data is not None and len(data) < at_least_bytes and low < QUALITIES[-1]:  # Sizes do not always rise.
        low += 1
        data = encode(low)
    return None if data is None else ClassicFile(data, low, decode_file(codec, data, rgb))


def _between(sizes: Mapping[int, int], low: int, high: int, at_least_bytes: int) -> int:
    """Return the quality to try next, below `high`: where log sizes would reach the bytes, or the middle."""
    below, above = sizes.get(low - 1, 0), sizes.get(high, 0)
    if not 0 < below < at_least_bytes <= above:
        return (low + high) // 2
    share = math.log(at_least_bytes / below) / math.log(above / below)
    return min(max(math.ceil(low - 1 + share * (high - low + 1)), low), high - 1)


def decode_file(codec: ClassicCodec, data: bytes, rgb: RGB) -> RGB:
    """Decode the file of a picture. Raises BrokenContractError if that does not give a picture of the same shape."""
    decoded = codec.decode(data) if isinstance(data, bytes) else None
    if not isinstance(decoded, np.ndarray):
        raise BrokenContractError("cannot decode what it encodes to")
    if decoded.dtype != np.uint8 or decoded.shape != rgb.shape:
        shape = f"{rgb.shape} of uint8 to {decoded.shape} of {decoded.dtype}"
        raise BrokenContractError(f"encodes and decodes {shape}, which is not the same")
    return decoded


def classic_curves(pictures: Sequence[RGB], stopped: Callable[[], bool] = lambda: False) -> dict[str, Curve] | None:
    """Measure curves of JPEG, WebP and, if Pillow has it, AVIF. Points are means over the pictures at a few qualities.

    A codec that breaks its contract is left out, with a warning. Returns None if `stopped` interrupts the measurement.
    """
    curves: dict[str, Curve] = {}
    with ThreadPoolExecutor() as pool:
        for name, codec in CLASSIC.items():
            try:
                with contract(f"the classic codec {name!r}"):
                    points = _points(codec, pictures, pool, stopped)
            except ConfigError as error:
                logger.warning("left out of the plots: %s", error)
                continue
            if points is None:
                return None
            if points:
                curves[codec.format] = rising(points)
    return curves


def _points(
    codec: ClassicCodec, pictures: Sequence[RGB], pool: ThreadPoolExecutor, stopped: Callable[[], bool]
) -> Curve | None:
    """Measure the points of a codec, in any order, those that it cannot write left out. Returns None if stopped."""
    points = []
    for quality in CURVE_QUALITIES if codec.available else ():
        for variant in codec.variants.values():
            if stopped():
                return None
            found = [point for point in pool.map(partial(_point, codec, quality, variant), pictures) if point]
            if len(found) == len(pictures):
                points.append((fmean(rate for rate, _ in found), fmean(psnr for _, psnr in found)))
    return points


def _point(codec: ClassicCodec, quality: int, variant: Variant, rgb: RGB) -> tuple[float, float] | None:
    data = codec.encode(rgb, quality, variant)
    if data is None:
        return None
    return bpp(len(data), rgb.shape[1], rgb.shape[0]), psnr_for_means_db(rgb, decode_file(codec, data, rgb))
