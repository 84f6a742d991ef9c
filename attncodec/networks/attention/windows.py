"""Feature maps are cut into windows here, and merged again."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """The windows that a map of height x width tokens is cut into.

    A window has `side` tokens in each direction, or as many as the map has if these are fewer. The map is padded with
    zeros to whole windows. If `shifted`, the cuts lie half a window further down and right, and the tokens above and to
    the left of the first cuts wrap around to the end (Liu et al. 2021, arXiv 2103.14030).
    """

    height: int
    width: int
    side: int
    shifted: bool = False

    @property
    def sides(self) -> tuple[int, int]:
        """Return the number of rows and columns of a window."""
        return min(self.side, self.height), min(self.side, self.width)

    @property
    def shifts(self) -> tuple[int, int]:
        """Return the number of rows and columns that wrap around, 0 where there is one window and no cut to move."""
        down, right = (
            side // 2 if self.shifted and side < length else 0
            for side, length in zip(self.sides, (self.height, self.width), strict=True)
        )
        return down, right

    def split(self, x: Tensor) -> Tensor:
        """Cut (B, C, height, width) into windows (B * windows, L, C)."""
        (rows, columns), (down, right) = self.sides, self.shifts
        x = F.pad(x, (0, -self.width % columns, 0, -self.height % rows))
        if down or right:
            x = x.roll((-down, -right), (2, 3))
        x = torch.unflatten(torch.unflatten(x, 3, (-1, columns)), 2, (-1, rows))
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)

    def merge(self, tokens: Tensor) -> Tensor:
        """Invert `split`: merge (B * windows, L, C) to (B, C, height, width)."""
        (rows, columns), (down, right) = self.sides, self.shifts
        high, wide = -(-self.height // rows), -(-self.width // columns)
        x = tokens.view(-1, high, wide, rows, columns, tokens.shape[-1])
        x = x.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)  # this is channels_last
        if down or right:
            x = x.roll((down, right), (2, 3))
        return x[..., : self.height, : self.width]

    def mask(self, device: torch.device) -> Tensor | None:
        """Return which tokens may see which, (windows, 1, L, L) bool, or None if all may.

        No token sees padding, or tokens that wrapped around into its window from the other end of the map.
        """
        (rows, columns), (down, right) = self.sides, self.shifts
        if not (self.height % rows or self.width % columns or down or right):
            return None
        below = torch.arange(self.height, device=device) >= down
        beside = torch.arange(self.width, device=device) >= right
        # The four pieces of the map are numbered 1 to 4. Padding is 0 and sees itself, so that every row has a key.
        pieces = self.split((1 + 2 * below[:, None] + beside)[None, None])
        return (pieces == pieces.mT)[:, None]
