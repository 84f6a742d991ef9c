"""The rate, and the mean difference in rate between two curves."""

import math
from collections.abc import Sequence

import numpy as np


def bpp(file_bytes: int, width: int, height: int) -> float:
    """Compute the bits per pixel of the whole file, header included."""
    return 8 * file_bytes / (width * height)


def bd_rate(reference: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> float | None:
    """Compute Bjøntegaard's mean difference in rate at equal PSNR (VCEG-M33, 2001), in percent.

    If it is negative, `test` needs less rate.

    A curve has at least two (bpp, psnr_db) points, and its PSNR rises with the rate. Log rate over PSNR is interpolated
    by monotone cubics (Fritsch & Carlson), as the reference software does. Returns None if the curves have no PSNR in
    common.
    """
    from scipy.interpolate import PchipInterpolator

    curves = [np.array(sorted(curve)) for curve in (reference, test)]
    low, high = (max(c[0, 1] for c in curves), min(c[-1, 1] for c in curves))
    if low >= high:
        return None
    areas = [PchipInterpolator(c[:, 1], np.log(c[:, 0])).integrate(low, high) for c in curves]
    return 100 * (math.exp((areas[1] - areas[0]) / (high - low)) - 1)
