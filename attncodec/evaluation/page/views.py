"""This module makes the versions of a picture that a page compares: of equal bytes, or of equal PSNR."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.sealed import SealedCodec
from attncodec.container import pack
from attncodec.errors import ConfigError
from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.classic.codec import ClassicCodec, Variant
from attncodec.evaluation.classic.search import QUALITIES, ClassicFile, Sizes, decode_file, smallest_file
from attncodec.evaluation.page.bits import bits_of_y
from attncodec.evaluation.page.contents import Comparison, Version
from attncodec.metrics import figures
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.pictures import RGB
from attncodec.quality import quality_of_index
from attncodec.registry import contract

PLACES = 3
SHOWN_BY_BROWSERS = {"JPEG": "image/jpeg", "WEBP": "image/webp", "AVIF": "image/avif"}


def shown_qualities(qualities: Sequence[float]) -> list[float]:
    """Choose a low quality, where differences are plain, and a middle one; of 8 these are 2 and 4."""
    chosen = (qualities[number] for number in (len(qualities) // 8, round(0.4 * len(qualities))))
    return [*dict.fromkeys(chosen)]


def compare_picture(
    models: Mapping[str, SealedCodec], rgb: RGB, target: Target, kinds: Sequence[str], effort: int = 0
) -> Comparison:
    """Encode a picture with models, by name, and with classic codecs, and read all of the files.

    The first model's file is as `target` says. If that is a PSNR, each other codec has its smallest file that reaches
    it. Else the other models have their best file with no more bytes, and the classic codecs their smallest with no
    fewer. A codec without such a file is `missing`. Raises as `PictureEncoder.encode` does, and ConfigError for a
    classic codec that breaks its contract.
    """
    return beside_classic(rgb, list(models), model_versions(models, rgb, target, effort), target, kinds)


def model_versions(models: Mapping[str, SealedCodec], rgb: RGB, target: Target, effort: int = 0) -> list[Version]:
    """Make the versions of the models, as `compare_picture` says. A model works in one thread at a time."""
    (name, sealed), *others = models.items()
    first = _version(name, sealed, rgb, target, effort)
    same = target if target.psnr_db is not None else Target(bytes=first.file_bytes)
    versions = [first]
    for name, sealed in others:
        with suppress(ConfigError):  # No file of this model is as asked.
            versions.append(_version(name, sealed, rgb, same, effort))
    return versions


def beside_classic(
    rgb: RGB,
    models: Sequence[str],
    versions: Sequence[Version],
    target: Target,
    kinds: Sequence[str],
    known: Mapping[str, Sizes] | None = None,
) -> Comparison:
    """Put the versions of models beside those of classic codecs. `known` sizes of their files shorten the search."""
    first, found = versions[0], list(versions)
    for kind in kinds:
        codec = CLASSIC[kind]
        with contract(f"the classic codec {kind!r}"):
            if target.psnr_db is None:
                file = smallest_file(codec, rgb, first.file_bytes, (known or {}).get(kind))
            else:
                file = smallest_with_psnr(codec, rgb, target.psnr_db)
        if file is not None:
            found.append(_classic_version(kind, codec, file, rgb))
    wanted = first.setting if target.psnr_db is None else f"at least {target.psnr_db:g} dB"
    title = f"{wanted}: {first.file_bytes:,} bytes"
    has_file = [version.codec for version in found]
    missing = [name for name in (*models, *kinds) if name not in has_file]
    return Comparison(title, found, places(rgb, [version.rgb for version in found]), missing)


def _version(name: str, sealed: SealedCodec, rgb: RGB, target: Target, effort: int) -> Version:
    encoder = PictureEncoder(sealed, rgb, effort)
    container = encoder.encode(target)
    data = pack(container)
    decoded, setting = decompress(sealed, data), f"quality {quality_of_index(container.quality_index):g}"
    return Version(name, setting, decoded, len(data), figures(rgb, decoded), bits=bits_of_y(encoder, container))


def _classic_version(kind: str, codec: ClassicCodec, found: ClassicFile, rgb: RGB) -> Version:
    media_type = SHOWN_BY_BROWSERS.get(codec.format, "")
    shown = found.data if media_type else b""
    setting, measured = f"quality {found.quality}", figures(rgb, found.decoded)
    return Version(kind, setting, found.decoded, len(found.data), measured, shown, media_type)


def smallest_with_psnr(codec: ClassicCodec, rgb: RGB, at_least_db: float) -> ClassicFile | None:
    """Find the smallest of the files, one a variant, of the lowest quality that reaches a PSNR; None if none does."""
    files = [_lowest(codec, rgb, at_least_db, variant) for variant in codec.variants.values()]
    return min((file for file in files if file), key=lambda file: len(file.data), default=None)


def _lowest(codec: ClassicCodec, rgb: RGB, at_least_db: float, variant: Variant) -> ClassicFile | None:
    best, low, high = None, QUALITIES[0], QUALITIES[-1]
    while low <= high:
        quality = (low + high) // 2
        data = codec.encode(rgb, quality, variant)
        if data is None:
            return None
        decoded = decode_file(codec, data, rgb)
        if psnr_for_means_db(rgb, decoded) >= at_least_db:
            best, high = ClassicFile(data, quality, decoded), quality - 1
        else:
            low = quality + 1
    return best


def places(rgb: RGB, versions: Sequence[RGB]) -> list[tuple[int, int, int]]:
    """Find the squares, (left, top, side), in which the first version differs most from the others.

    If it is the only one, these are the squares in which it differs most from the original.
    """
    first, others = versions[0].astype(np.int32), versions[1:] or [rgb]
    error = sum(np.square(first - other).sum(axis=2, dtype=np.float64) for other in others)
    assert isinstance(error, np.ndarray)
    height, width = error.shape
    side = min(height, width, max(32, min(height, width) // 6))
    sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    # All squares on a grid of quarters of a side compete, and those that meet a chosen one retire.
    tops, lefts = (np.arange(0, length - side + 1, max(1, side // 4)) for length in (height, width))
    squares = sums[np.ix_(tops + side, lefts + side)] - sums[np.ix_(tops, lefts + side)]
    squares += sums[np.ix_(tops, lefts)] - sums[np.ix_(tops + side, lefts)]
    found: list[tuple[int, int, int]] = []
    while len(found) < PLACES and squares.max() > 0:
        row, column = np.unravel_index(squares.argmax(), squares.shape)
        top, left = tops[row], lefts[column]
        found.append((int(left), int(top), side))
        squares[np.ix_(abs(tops - top) < side, abs(lefts - left) < side)] = 0
    return found
