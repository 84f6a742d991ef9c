"""The peak signal-to-noise ratio, of RGB and of YCbCr."""

import math

import numpy as np

from attncodec.pictures import RGB

LOSSLESS_DB = 99.0  # equal pictures count as this in a mean
ROWS = 64
KR, KB = 0.2126, 0.0722  # ITU-R BT.709
# These are the luma and the two colour differences of RGB, on the scale of RGB.
YCBCR = np.array(
    [
        [KR, 1 - KR - KB, KB],
        [-KR / (2 * (1 - KB)), (KR + KB - 1) / (2 * (1 - KB)), 0.5],
        [0.5, (KR + KB - 1) / (2 * (1 - KR)), -KB / (2 * (1 - KR))],
    ]
)
YUV_WEIGHTS = (6, 1, 1)
EQUAL_MSE = 1e-20  # Sums of weights leave less than this where a difference is 0.


def psnr_db(a: RGB, b: RGB) -> float | None:
    """Compute the peak signal-to-noise ratio of two (H, W, 3) uint8 pictures, or return None if they are equal."""
    error = squared_error(a, b)
    return mse_to_psnr_db(error / a.size) if error else None


def squared_error(a: RGB, b: RGB) -> int:
    """Sum the squared differences of two (H, W, 3) uint8 pictures, some rows at a time, so that memory stays small."""
    rows = (slice(row, row + ROWS) for row in range(0, len(a), ROWS))
    return sum(int(np.square(a[part].astype(np.int32) - b[part]).sum(dtype=np.int64)) for part in rows)


def psnr_yuv_db(a: RGB, b: RGB) -> float | None:
    """Compute the PSNR-YUV of Ohm et al. 2012 (IEEE TCSVT 22 (12)): (6 PSNR_Y + PSNR_Cb + PSNR_Cr) / 8.

    The planes are those of ITU-R BT.709 in full range and full resolution, not rounded. Returns None if one of them is
    equal in both pictures, as the colour of grey pictures is.
    """
    squares = np.zeros(3)
    for row in range(0, len(a), ROWS):
        part = slice(row, row + ROWS)
        squares += np.square((a[part].astype(np.float64) - b[part]) @ YCBCR.T).sum((0, 1))
    mse = squares / (a.shape[0] * a.shape[1])
    if mse.min() < EQUAL_MSE:
        return None
    planes_db = (mse_to_psnr_db(float(error)) for error in mse)
    return sum(weight * db for weight, db in zip(YUV_WEIGHTS, planes_db, strict=True)) / sum(YUV_WEIGHTS)


def psnr_for_means_db(a: RGB, b: RGB) -> float:
    """Compute the PSNR of two pictures for use in a mean, in which equal pictures count as 99 dB."""
    quality_db = psnr_db(a, b)
    return LOSSLESS_DB if quality_db is None else quality_db


def mse_to_psnr_db(mse_255: float) -> float:
    """Convert an MSE above 0, on the scale of 0 to 255, to dB."""
    return 10 * math.log10(255**2 / mse_255)
