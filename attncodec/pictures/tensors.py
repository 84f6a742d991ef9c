"""Pictures and tensors. No other module rounds pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from attncodec.pictures.picture import RGB


def to_tensor(rgb: RGB) -> Tensor:
    """Convert (H, W, 3) uint8 to (1, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float().div_(255)


def to_uint8(x: Tensor) -> Tensor:
    """Round floats in about [0, 1] to the nearest uint8, same shape."""
    return x.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def to_rgb(x: Tensor, grey: bool = False) -> RGB:
    """Convert (1, 3, H, W) float to (H, W, 3) uint8. The channels of a grey picture become their mean."""
    if grey:
        x = x.mean(dim=1, keepdim=True).expand_as(x)
    rgb: RGB = to_uint8(x[0]).permute(1, 2, 0).contiguous().cpu().numpy()
    return rgb


def pad_edges(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) by repeating the last row and column until H and W are multiples of `multiple`."""
    height, width = x.shape[-2:]
    beyond = (0, -width % multiple, 0, -height % multiple)
    return F.pad(x, beyond, mode="replicate") if any(beyond) else x  # padding by nothing would still copy it
