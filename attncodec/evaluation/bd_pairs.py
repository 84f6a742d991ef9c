"""This module chooses the BD-rates of results that are shown, and says in words why there are no others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attncodec.evaluation.curves import quality_at
from attncodec.evaluation.published import DRAWN
from attncodec.metrics import CURVE_AXES
from attncodec.metrics.rate import BD_POINTS_MIN

Results = Mapping[str, Any]


def name_of(results: Results, curve: str) -> str:
    """Return what a curve is called where results are shown."""
    published = results["published"].get(curve)
    return f"{published['title']}, published" if published else curve


def pairs(results: Results, codecs: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each quality and how some codecs compare over it with every curve, where both have points enough."""
    for codec in codecs:
        for axis, found in results["axes"].items():
            for pair in found["bd"]:
                if pair["codec"] == codec and not {codec, pair["reference"]} & _short(found).keys():
                    yield axis, pair


def of_pictures(results: Results, axis: str, pair: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """Return the BD-rates of single pictures, if there are any, and of how many they are, if it is not all."""
    found = pair.get("per_picture")
    if not found or not found["pictures"]:
        return None, ""
    return found, "" if found["pictures"] == results["axes"][axis]["pictures"] else f", of {found['pictures']}"


def reasons(results: Results, codecs: Sequence[str]) -> list[str]:
    """Say of each short curve that stands beside these codecs how many points it has.

    Below stands, for a model, what other codecs reach at the same rates.
    """
    lines = []
    beside = dict.fromkeys([*codecs, *(codec for found in results["axes"].values() for codec in found["curves"])])
    for codec in beside if any(found["bd"] for found in results["axes"].values()) else ():
        by_count: dict[int, list[str]] = {}
        for axis, found in results["axes"].items():
            if found["pictures"] and codec in _short(found):
                by_count.setdefault(len(found["curves"][codec]), []).append(axis)
        for count, axes in by_count.items():
            titles, points = ", ".join(CURVE_AXES[axis].title for axis in axes), f"{count} point{'s' * (count != 1)}"
            lines.append(
                f"{name_of(results, codec)}: the curve has {points} ({titles}), and {BD_POINTS_MIN} are needed for a "
                "BD-rate."
            )
            if codec in results["models"]:
                lines += [line for axis in axes for line in _at_same_rates(results, axis, codec)]
    return lines


def _short(found: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: curve for name, curve in found["curves"].items() if len(curve) < BD_POINTS_MIN}


def _at_same_rates(results: Results, axis: str, codec: str) -> Iterator[str]:
    curves = {
        name: [(point["bpp"], point[axis]) for point in curve]
        for name, curve in results["axes"][axis]["curves"].items()
        if curve and (name not in results["published"] or name in DRAWN)
    }
    for rate_bpp, quality_db in curves.pop(codec, []):
        others = {name_of(results, name): quality_at(curve, rate_bpp) for name, curve in curves.items()}
        told = [f"; {name} {value:.2f} dB" for name, value in others.items() if math.isfinite(value)]
        if told:
            yield f"{CURVE_AXES[axis].title} at {rate_bpp:.4f} bpp: {codec} {quality_db:.2f} dB{''.join(told)}."
