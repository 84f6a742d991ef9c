"""The multi-scale structural similarity of Wang et al. 2003."""

import math

import torch

from attncodec.pictures import RGB

MS_SSIM_MIN_SIDE = 161  # five scales of an 11-pixel window need this


def ms_ssim(a: RGB, b: RGB) -> float | None:
    """Compute the multi-scale structural similarity (Wang et al. 2003) of two (H, W, 3) uint8 pictures, in [0, 1].

    Returns None if a side is under 161 pixels, because five scales do not fit.
    """
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    from pytorch_msssim import ms_ssim as reference

    x, y = (torch.from_numpy(rgb).permute(2, 0, 1)[None].float() for rgb in (a, b))
    return float(reference(x, y, data_range=255))


def ms_ssim_to_db(similarity: float) -> float | None:
    """Convert an MS-SSIM to dB, -10 log10(1 - MS-SSIM), or return None if it is 1."""
    return -10 * math.log10(1 - similarity) if similarity < 1 else None
