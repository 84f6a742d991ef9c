"""The rate, and Bjøntegaard's mean differences in rate and in quality between two curves (VCEG-M33, 2001)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Curve = list[tuple[float, float]]  # The points hold bpp and a quality, such as PSNR in dB.
Points = Sequence[tuple[float, float]]

BD_POINTS_MIN = 4
BD_SHARED_MIN = 0.25  # of the range of the curve that has the smaller one


def bpp(file_bytes: int, width: int, height: int) -> float:
    """Compute the bits per pixel of the whole file, header included."""
    return 8 * file_bytes / (width * height)


def bd_rate(reference: Points, test: Points) -> float | None:
    """Compute Bjøntegaard's mean difference in rate at equal quality, in percent.

    If it is negative, `test` needs less rate.

    A curve has at least two (bpp, quality) points, and its quality rises with the rate. Log rate over quality is
    interpolated by monotone cubics (Fritsch & Carlson), as the reference software does. Returns None if the curves have
    no quality in common.
    """
    axes = [by_quality(curve) for curve in (reference, test)]
    low, high = shared_range(*(quality for quality, _ in axes))
    return _in_percent(_mean_gap(axes[0], axes[1], low, high)) if low < high else None


@dataclass(frozen=True)
class MeanDifference:
    """A mean difference of a curve to a reference, over the range from `low` to `high` that both have.

    If there is none, `value` is None, and `reason` says why.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def bd_rate_percent(reference: Points, test: Points) -> MeanDifference:
    """Compute the BD-rate of two curves over the quality that both have.

    There is none if a curve has fewer than four points that rise, or if less than a quarter is shared.
    """
    found = _mean_difference(reference, test, by_quality)
    return found if found.value is None else replace(found, value=_in_percent(found.value))


def bd_quality(reference: Points, test: Points) -> MeanDifference:
    """Compute the mean difference in quality over the log rate that both have: BD-PSNR for curves of PSNR.

    There is none if a curve has fewer than four points that rise, or if less than a quarter is shared. The range is in
    bits per pixel.
    """
    found = _mean_difference(reference, test, by_log_rate)
    if found.low is None or found.high is None:
        return found
    return replace(found, low=math.exp(found.low), high=math.exp(found.high))


def rising(points: Points) -> Curve:
    """Sort the points by rate, and drop those that another point beats in rate and quality."""
    curve: Curve = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not curve or point[1] > curve[-1][1]:
            curve.append(point)
    return curve


Axes = tuple[NDArray[np.float64], NDArray[np.float64]]


def by_quality(curve: Points) -> Axes:
    """Return the qualities of a curve, and its log rates."""
    array = np.array(sorted(curve), dtype=np.float64)
    return array[:, 1], np.log(array[:, 0])


def by_log_rate(curve: Points) -> Axes:
    """Return the log rates of a curve, and its qualities."""
    return by_quality(curve)[::-1]


def shared_range(*axes: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range that all of several rising arrays have; the first is not below the second if there is none."""
    return max(float(axis[0]) for axis in axes), min(float(axis[-1]) for axis in axes)


def _mean_gap(reference: Axes, test: Axes, low: float, high: float) -> float:
    from scipy.interpolate import PchipInterpolator

    areas = [PchipInterpolator(*axes).integrate(low, high) for axes in (reference, test)]
    return float(areas[1] - areas[0]) / (high - low)


def _mean_difference(reference: Points, test: Points, axes_of: Callable[[Points], Axes]) -> MeanDifference:
    curves = [rising(curve) for curve in (reference, test)]
    for name, curve in zip(("the reference", "the curve"), curves, strict=True):
        if len(curve) < BD_POINTS_MIN:
            points = f"{len(curve)} point{'' if len(curve) == 1 else 's'}"
            return MeanDifference(None, reason=f"{name} has {points}, and {BD_POINTS_MIN} are needed")
    axes = [axes_of(curve) for curve in curves]
    low, high = shared_range(*(x for x, _ in axes))
    share = max(0.0, high - low) / min(float(x[-1] - x[0]) for x, _ in axes)
    if share < BD_SHARED_MIN:
        return MeanDifference(None, reason=f"{share:.0%} of the range is shared, and {BD_SHARED_MIN:.0%} is needed")
    return MeanDifference(_mean_gap(axes[0], axes[1], low, high), low, high)


def _in_percent(log_rate: float) -> float:
    return 100 * math.expm1(log_rate)
