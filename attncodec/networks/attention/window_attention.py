"""The windowed block applies a scorer to the tokens of each window of a map: self-attention."""

from torch import Tensor, nn

from attncodec.config import AttentionConfig
from attncodec.errors import ConfigError
from attncodec.networks.attention.pooling import Pooled, attention_pooling
from attncodec.networks.attention.windows import Windows


class WindowAttention(nn.Module):
    """Residual self-attention among the tokens of each window, x + project(attention), with any of the scorers.

    The projection starts at zero, so the block begins as the identity. Tokens are normalised over their channels (Ba et
    al. 2016), so that scores keep their range while the network around them learns.
    """

    def __init__(self, channels: int, heads: int, window: int, scorer: nn.Module, shifted: bool = False) -> None:
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.reach = self.grid = window  # so a strip has more rows than a window, and shifted ones are cut alike
        self.norm = nn.LayerNorm(channels)
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1, bias=False) for _ in range(3))
        self.scorer = scorer
        self.project = nn.Conv2d(channels, channels, 1)
        for parameter in self.project.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        return x + self.project(self.attend(x, need_weights=False)[0])

    def attend(self, x: Tensor, need_weights: bool = True) -> Pooled:
        """Compute the attention of x (B, C, H, W), without the projection and the residual connection.

        Returns the result, in the shape of x, and the weights, (B * windows, heads, L, L) or None.
        """
        windows = self.windows(x)
        normal = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        queries, keys, values = (windows.split(layer(normal)) for layer in (self.query, self.key, self.value))
        mask = windows.mask(x.device)
        if mask is not None:
            mask = mask.repeat(x.shape[0], 1, 1, 1)
        tokens, weights = attention_pooling(self.scorer, queries, keys, values, self.heads, mask, need_weights)
        return windows.merge(tokens), weights

    def windows(self, x: Tensor) -> Windows:
        """Return the windows that x (B, C, H, W) is cut into."""
        return Windows(x.shape[-2], x.shape[-1], self.window, self.shifted)


def head_width(config: AttentionConfig, channels: int) -> int:
    """Return the channels of a head. Raises ConfigError if the channels do not divide into the heads."""
    if channels % config.heads:
        raise ConfigError(
            f"model: a width of {channels} is not divisible by {config.heads} attention heads",
            "model.attention.heads sets their number",
        )
    return channels // config.heads


def build_windowed(config: AttentionConfig, channels: int, shifted: bool, scorer: nn.Module) -> WindowAttention:
    """Build the block around a scorer."""
    return WindowAttention(channels, config.heads, config.window, scorer, shifted)
