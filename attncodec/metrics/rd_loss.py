"""The loss that training minimises: rate plus lambda times distortion, weighted for each level."""

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from torch.nn.functional import mse_loss

RD_LAMBDA_OF_WEIGHT_1 = 0.0130
MS_SSIM_SCALE = 1280.0  # this is CompressAI's lambda for 1 - MS-SSIM (2.40 ... 220) over that for MSE, to 5 %


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
