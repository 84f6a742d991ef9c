"""Look at what the attention of a sealed codec does with a picture, for show_attention.py and study_attention.py."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attncodec.coding.sealed import SealedCodec
from attncodec.networks.attention.gated import AttentionBlock
from attncodec.networks.attention.kernel import Kernel
from attncodec.networks.attention.window_attention import WindowAttention
from attncodec.networks.bottleneck import Bottleneck, RoundBottleneck
from attncodec.networks.transforms import STRIDE
from attncodec.pictures import RGB, to_tensor


@dataclass(frozen=True)
class Place:
    """An attention block, and the map (1, C, H, W) that it was given."""

    name: str
    stride: int  # pixels to an element of the map
    block: nn.Module
    x: Tensor

    @torch.inference_mode()
    def weights(self) -> Tensor:
        """Return the weights of a windowed block, (windows, heads, L, L)."""
        found: Tensor = self.block.attend(self.x)[1]
        return found

    @torch.inference_mode()
    def seen_from(self, row: int, column: int) -> Tensor:
        """Return what an element of the map looks at: its weights on the whole map, averaged over heads, (H, W)."""
        height, width = self.x.shape[-2:]
        windows = self.block.windows(self.x)
        places = torch.arange(1, height * width + 1).reshape(1, 1, height, width)  # 0 is padding
        tokens = windows.split(places)[..., 0]
        window, token = (tokens == 1 + row * width + column).nonzero()[0]
        seen = torch.zeros(1 + height * width).index_add(0, tokens[window], self.weights()[window, :, token].mean(0))
        return seen[1:].reshape(height, width)

    @torch.inference_mode()
    def mask(self) -> Tensor:
        """Return what a gated block lets through, between 0 and 1, averaged over channels, (H, W)."""
        return torch.sigmoid(self.block.mask(self.x))[0].mean(0)

    @torch.inference_mode()
    def added(self) -> float:
        """Return how much the block adds to its input, as the ratio of their root mean squares."""
        difference = self.block(self.x) - self.x
        return float(difference.square().mean().sqrt() / self.x.square().mean().sqrt())


@torch.inference_mode()
def look(sealed: SealedCodec, rgb: RGB, quality_index: int, bottleneck: Bottleneck) -> list[Place]:
    """Send a picture through the codec and the bottleneck, and keep the input of each attention block."""
    found: list[Place] = []
    hooks = []
    for transform in ("analysis", "synthesis"):
        for block in getattr(sealed.codec, transform).network:
            if isinstance(block, AttentionBlock | WindowAttention):

                def keep(block: nn.Module, inputs: tuple[Tensor], transform: str = transform) -> None:
                    stride = -(-rgb.shape[0] // STRIDE) * STRIDE // inputs[0].shape[-2]
                    found.append(Place(f"{transform}, stride {stride}", stride, block, inputs[0]))

                hooks.append(block.register_forward_pre_hook(keep))
    try:
        sealed.codec(to_tensor(rgb), bottleneck, torch.tensor([quality_index]))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def learned(sealed: SealedCodec, rgb: RGB, quality_index: int) -> str:
    """Describe in a line what the attention blocks have learned to do, from the least to the most over their places."""
    places = look(sealed, rgb, quality_index, RoundBottleneck())
    if not places:
        return "-"
    parts = [f"adds {_span([100 * place.added() for place in places])} % of its input"]
    windowed = [place for place in places if isinstance(place.block, WindowAttention)]
    gated = [place for place in places if isinstance(place.block, AttentionBlock)]
    if windowed:
        weights = [place.weights() for place in windowed]
        entropy = [-(w * w.clamp_min(1e-12).log()).sum(-1).mean() for w in weights]
        spread = _span([float(value.exp()) for value in entropy])
        parts.append(f"looks at {spread} of {max(w.shape[-1] for w in weights)} tokens")
    if gated:
        parts.append(f"lets {_span([100 * float(place.mask().mean()) for place in gated])} % through")
    kernels = [place.block.scorer for place in windowed if isinstance(place.block.scorer, Kernel)]
    if kernels:
        sigmas = torch.cat([kernel.log_sigma.exp() for kernel in kernels])
        parts.append(f"sigma {sigmas.min():.2f} to {sigmas.max():.2f}")
    return "; ".join(parts)


def _span(values: list[float]) -> str:
    return f"{min(values):.0f} to {max(values):.0f}"
