"""This module makes rate-distortion curves from records, and compares them.

A mean is over the pictures that have the figure in every file of every codec, so that all means are over the same.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attncodec.evaluation.records import Record
from attncodec.metrics import CURVE_AXES, METRICS
from attncodec.metrics.rate import Curve, MeanDifference, bd_quality, bd_rate_percent, rising

Setting = tuple[str, float]  # a variant and a quality


@dataclass(frozen=True)
class Common:
    """The pictures that have a figure in every file, and those that have it not in some file."""

    names: list[str]
    left_out: list[str]


class Records:
    """The records of an evaluation by codec, setting and picture."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.all = records
        self.names = list(dict.fromkeys(record.name for record in records))
        self.settings: dict[str, list[Setting]] = {}
        self.by_key: dict[tuple[str, Setting, str], Record] = {}
        self._common: dict[str | None, Common] = {}
        for record in records:
            setting = (record.variant, record.quality)
            if setting not in self.settings.setdefault(record.codec, []):
                self.settings[record.codec].append(setting)
            self.by_key[record.codec, setting, record.name] = record

    def common(self, metric: str | None = None) -> Common:
        """Return the pictures that have a metric, or a file if it is None, for every codec and setting."""
        if metric not in self._common:
            found = self._common[metric] = Common([], [])
            settings = [(codec, setting) for codec in self.settings for setting in self.settings[codec]]
            for name in self.names:
                files = [self.by_key.get((*setting, name)) for setting in settings]
                whole = all(file and (metric is None or file.figures[metric] is not None) for file in files)
                (found.names if whole else found.left_out).append(name)
        return self._common[metric]

    def mean(self, codec: str, setting: Setting, figure: str, names: Sequence[str]) -> float | None:
        """Return the mean of a column over some pictures, or None if a picture has not got it, or there is none."""
        values = [self.by_key[codec, setting, name].row()[figure] for name in names]
        return statistics.fmean(values) if values and None not in values else None

    def points(self, codec: str) -> list[dict[str, Any]]:
        """Return the means of all figures at each setting of a codec, and over how many pictures each mean is."""
        files = self.common().names
        found = []
        for setting in self.settings[codec]:
            point: dict[str, Any] = {"variant": setting[0], "quality": setting[1], "pictures": len(files)}
            for figure in ("bpp", "bpp_est", "encode_s", "decode_s"):
                point[figure] = self.mean(codec, setting, figure, files)
            peaks = [self.by_key[codec, setting, name].peak_mib for name in files]
            point["peak_mib"] = max((peak for peak in peaks if peak is not None), default=None)
            for metric in METRICS:
                point[metric] = self.mean(codec, setting, metric, self.common(metric).names)
            for name, axis in CURVE_AXES.items():
                value = point[axis.metric]
                point[name] = None if value is None else axis.in_db(value)
            found.append(point)
        return found

    def curve(self, codec: str, axis_name: str, names: Sequence[str]) -> Curve:
        """Return the curve of a codec over the mean of some pictures: the best of its variants at each rate."""
        axis, variants = CURVE_AXES[axis_name], dict[str, Curve]()
        for setting in self.settings[codec] if names else ():
            rate_bpp, value = (self.mean(codec, setting, figure, names) for figure in ("bpp", axis.metric))
            quality_db = None if value is None else axis.in_db(value)
            if rate_bpp is not None and quality_db is not None:
                variants.setdefault(setting[0], []).append((rate_bpp, quality_db))
        return upper(list(variants.values()))


def upper(curves: Sequence[Curve]) -> Curve:
    """Return the points of several curves that lie under none of the other curves, interpolated over the log rate."""
    curves = [rising(curve) for curve in curves]
    kept: Curve = []
    for number, curve in enumerate(curves):
        others = curves[:number] + curves[number + 1 :]
        kept += [point for point in curve if all(point[1] >= quality_at(other, point[0]) for other in others)]
    return rising(kept)


def quality_at(curve: Curve, rate_bpp: float) -> float:
    """Return the quality of a curve at a rate, interpolated over the log rate; minus infinity outside of its rates."""
    rates_bpp, qualities_db = zip(*curve, strict=True)
    return float(np.interp(np.log(rate_bpp), np.log(rates_bpp), qualities_db, left=-np.inf, right=-np.inf))


def compare(records: Records, published: Mapping[str, Curve], axis_name: str) -> dict[str, Any]:
    """Return the curves over one quality, and the BD-rate and BD-PSNR of each against each other.

    Published curves are compared by their means; they are of PSNR.
    """
    common = records.common(CURVE_AXES[axis_name].metric)
    measured = {codec: records.curve(codec, axis_name, common.names) for codec in records.settings}
    by_picture = {
        codec: {name: records.curve(codec, axis_name, [name]) for name in common.names} for codec in records.settings
    }
    curves = {**measured, **published}
    found = []
    for reference in curves:
        for codec in curves:
            if codec == reference:
                continue
            pair: dict[str, Any] = {"reference": reference, "codec": codec}
            pair |= _differences(curves[reference], curves[codec])
            if reference in measured and codec in measured:
                pair["per_picture"] = _per_picture(by_picture[reference], by_picture[codec])
            found.append(pair)
    return {
        "pictures": len(common.names),
        "left_out": common.left_out,
        "curves": {
            name: [{"bpp": rate, axis_name: quality} for rate, quality in curve] for name, curve in curves.items()
        },
        "bd": found,
    }


def _differences(reference: Curve, curve: Curve) -> dict[str, Any]:
    rate, quality = bd_rate_percent(reference, curve), bd_quality(reference, curve)
    return {
        "bd_rate_percent": rate.value,
        "range_db": _range(rate),
        "bd_psnr_db": quality.value,
        "range_bpp": _range(quality),
        "reason": rate.reason or quality.reason,
    }


def _range(difference: MeanDifference) -> list[float] | None:
    return None if difference.low is None or difference.high is None else [difference.low, difference.high]


def _per_picture(references: Mapping[str, Curve], curves: Mapping[str, Curve]) -> dict[str, Any]:
    """Return the BD-rate of each picture, their median, and the worst, where the curve needs most rate."""
    rates = {name: bd_rate_percent(references[name], curves[name]).value for name in curves}
    defined = {name: rate for name, rate in rates.items() if rate is not None}
    worst = max(defined, key=lambda name: defined[name], default=None)
    return {
        "pictures": len(defined),
        "median_percent": statistics.median(defined.values()) if defined else None,
        "worst_percent": None if worst is None else defined[worst],
        "worst_picture": worst,
        "bd_rate_percent": rates,
    }
