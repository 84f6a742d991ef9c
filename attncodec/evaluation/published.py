"""Published rate-distortion curves of Kodak, in kodak.json with the source of each and the hashes of the pictures."""

import json
from collections.abc import Collection
from functools import cache
from importlib.resources import files
from typing import Any

from attncodec.metrics.rate import Curve

PUBLISHED = "published/"  # The names of published curves begin so, because some are of codecs that are measured too.
DRAWN = [PUBLISHED + name for name in ("vtm", "cheng2020-attn", "elic2022")]  # in plots, where all would be too many


@cache
def kodak() -> dict[str, Any]:
    """Return kodak.json."""
    found: dict[str, Any] = json.loads(files("attncodec.evaluation").joinpath("kodak.json").read_text())
    return found


def dataset_of(pixels_sha256: Collection[str]) -> str | None:
    """Return the name of the data set whose pictures, all of them and no others, have these hashes."""
    known = {picture["pixels_sha256"] for picture in kodak()["pictures"].values()}
    return str(kodak()["dataset"]) if set(pixels_sha256) == known else None


def published_curves(dataset: str | None) -> dict[str, Curve]:
    """Return the published curves of PSNR for a data set, which are none for an unknown one."""
    curves = kodak()["curves"] if dataset == kodak()["dataset"] else {}
    return {PUBLISHED + name: list(zip(curve["bpp"], curve["psnr_db"], strict=True)) for name, curve in curves.items()}
