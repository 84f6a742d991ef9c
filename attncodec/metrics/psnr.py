"""The peak signal-to-noise ratio."""

import math

import numpy as np

from attncodec.pictures import RGB

LOSSLESS_DB = 99.0  # equal pictures count as this in a mean
ROWS = 64


def psnr_db(a: RGB, b: RGB) -> float | None:
    """Compute the peak signal-to-noise ratio of two (H, W, 3) uint8 pictures, or return None if they are equal."""
    error = squared_error(a, b)
    return mse_to_psnr_db(error / a.size) if error else None


def squared_error(a: RGB, b: RGB) -> int:
    """Sum the squared differences of two (H, W, 3) uint8 pictures, some rows at a time, so that memory stays small."""
    rows = (slice(row, row + ROWS) for row in range(0, len(a), ROWS))
    return sum(int(np.square(a[part].astype(np.int32) - b[part]).sum(dtype=np.int64)) for part in rows)


def psnr_for_means_db(a: RGB, b: RGB) -> float:
    """Compute the PSNR of two pictures for use in a mean, in which equal pictures count as 99 dB."""
    quality_db = psnr_db(a, b)
    return LOSSLESS_DB if quality_db is None else quality_db


def mse_to_psnr_db(mse_255: float) -> float:
    """Convert an MSE above 0, on the scale of 0 to 255, to dB."""
    return 10 * math.log10(255**2 / mse_255)
