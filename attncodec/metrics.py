"""The metrics are pure functions with the unit in each name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from attncodec.pictures import RGB

RD_LAMBDA_OF_WEIGHT_1 = 0.0130
LOSSLESS_DB = 99.0  # equal pictures count as this in a mean
MS_SSIM_MIN_SIDE = 161  # five scales of an 11-pixel window need this
MS_SSIM_SCALE = 1280.0  # this is CompressAI's lambda for 1 - MS-SSIM (2.40 ... 220) over that for MSE, to 5 %


def psnr_db(a: RGB, b: RGB) -> float | None:
    """Compute the peak signal-to-noise ratio of two (H, W, 3) uint8 pictures, or return None if they are equal."""
    mse = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return mse_to_psnr_db(mse) if mse > 0 else None


def psnr_for_means_db(a: RGB, b: RGB) -> float:
    """Compute the PSNR of two pictures for use in a mean, in which equal pictures count as 99 dB."""
    quality_db = psnr_db(a, b)
    return LOSSLESS_DB if quality_db is None else quality_db


def mse_to_psnr_db(mse_255: float) -> float:
    """Convert an MSE above 0, on the scale of 0 to 255, to dB."""
    return 10 * math.log10(255**2 / mse_255)


def ms_ssim(a: RGB, b: RGB) -> float | None:
    """Compute the multi-scale structural similarity (Wang et al. 2003) of two (H, W, 3) uint8 pictures, in [0, 1].

    Returns None if a side is under 161 pixels, because five scales do not fit.
    """
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    from pytorch_msssim import ms_ssim as reference

    x, y = (torch.from_numpy(rgb).permute(2, 0, 1)[None].float() for rgb in (a, b))
    return float(reference(x, y, data_range=255))


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


@dataclass(frozen=True)
class RDLoss:
    """The loss that a training step minimises, a differentiable scalar, and its parts, (B,), for each picture."""

    loss: Tensor
    rate_bpp: Tensor
    mse_255: Tensor


def rd_loss(x: Tensor, x_hat: Tensor, bits: Tensor, rd_lambda: Tensor, ms_ssim_share: float = 0.0) -> RDLoss:
    """Compute bpp + rd_lambda * distortion, with each picture weighted by `level_weight`.

    The distortion is 255^2 * MSE, the convention of CompressAI, or `mixed_distortion`. x and x_hat are (B, 3, H, W)
    float, with x in [0, 1]; MS-SSIM needs sides of at least 161. `bits` and `rd_lambda` are (B,), one per picture.
    """
    rate_bpp = bits / (x.shape[-2] * x.shape[-1])
    mse_255 = distortion = mse_loss(x_hat.float(), x, reduction="none").sum((1, 2, 3)) * (255**2 / x[0].numel())
    if ms_ssim_share:
        from pytorch_msssim import ms_ssim as reference

        similarity = reference(x_hat.float(), x, data_range=1.0, size_average=False)
        distortion = mixed_distortion(mse_255, similarity, ms_ssim_share)
    loss = (rate_bpp + rd_lambda * distortion) * level_weight(rd_lambda)
    return RDLoss(loss.mean(), rate_bpp, mse_255)


T = TypeVar("T", float, Tensor)


def mixed_distortion(mse_255: T, ms_ssim: T, ms_ssim_share: float) -> T:
    """Compute a weighted sum of 255^2 * MSE and 1280 * (1 - MS-SSIM).

    CompressAI trains for bpp + lambda * (1 - MS-SSIM) with lambdas of 2.40 to 220. Because of the factor, a level's
    lambda for MSE means about the same for both.
    """
    return (1 - ms_ssim_share) * mse_255 + ms_ssim_share * MS_SSIM_SCALE * (1 - ms_ssim)


def level_weight(rd_lambda: Tensor) -> Tensor:
    """Return the weight of a picture's loss, which depends on its lambda.

    Losses grow with about the square root of lambda, and the weight keeps one level from dominating the others.
    """
    return (rd_lambda / RD_LAMBDA_OF_WEIGHT_1).rsqrt()
