"""One picture on its way into a file: its latents, the quality that meets a target, what is skipped, and effort.

The analysis runs once; trials count bits from the tables, without coding.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

from attncodec.config import QUALITY_STEPS
from attncodec.container import HEADER_BYTES, Container, pack, unpack
from attncodec.errors import CheckpointError, ConfigError
from attncodec.images import RGB, to_rgb, to_tensor
from attncodec.metrics import psnr_db
from attncodec.networks.bottleneck import BitCounter, RoundBottleneck, EncodeBottleneck, try_skipping
from attncodec.coding.range_coder import SymbolWriter
from attncodec.quality import rd_lambda_at
from attncodec.networks.priors import SKIP_SCALE_INDEX
from attncodec.coding.refinement import Latents, refine

if TYPE_CHECKING:
    from attncodec.coding.sealed import SealedCodec

DEFAULT_QUALITY = 4.0
WORD_BYTES = 4
BPP_MAX = 1e6  # more than any file has


@dataclass(frozen=True)
class Target:
    """What is asked of a file: one of these, or nothing, which is quality 4 (or the highest that the model has)."""

    quality: float | None = None
    bytes: int | None = None
    bpp: float | None = None
    psnr_db: float | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for a target that is not a number."""
        for name, value in (("bpp", self.bpp), ("dB", self.psnr_db)):
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"a target of {value} {name} is no number", "for example --target-bpp 0.5")


Sink = TypeVar("Sink", SymbolWriter, BitCounter)


@dataclass(frozen=True)
class SentLatents(Generic[Sink]):
    """What came of sending the latents: the channel, what took the symbols, and the latents as the decoder has them."""

    bottleneck: EncodeBottleneck
    sink: Sink
    y_hat: Tensor


class PictureEncoder:
    """A picture, analysed. `latents_sha256` is that of the file written last, for comparison with a decoder's."""

    def __init__(self, sealed: "SealedCodec", rgb: RGB, effort: int = 0) -> None:
        """effort: 0 to 3, how long latents are refined (refinement.py)."""
        self.sealed, self.rgb, self.effort = sealed, rgb, effort
        self.latents = Latents(sealed.analyse(to_tensor(rgb)))
        if not bool(torch.isfinite(self.latents.units).all()):
            raise CheckpointError("the model is damaged: its analysis gives what is not finite")
        self.latents_sha256 = ""

    def find(self, target: Target) -> bytes:
        """The file. Raises ConfigError for a quality that the model has not, and for a target out of reach, saying what
        can be reached."""
        quality_index = self._quality_index(target)
        if self.effort and 0 <= quality_index <= self.top:
            quality_index = self._refined(target, quality_index)
        if quality_index < 0:
            limit_bytes = self._limit_bytes(target)
            raise ConfigError(
                f"{limit_bytes} bytes are too few for this picture", f"its smallest file has {len(self.write(0))} bytes"
            )
        if quality_index > self.top:
            raise ConfigError(
                f"{target.psnr_db:g} dB is out of reach for this picture",
                f"its best file has {self.psnr_db(self.top):.2f} dB",
            )
        return self.write(quality_index)

    @property
    def top(self) -> int:
        """The highest position."""
        return self.sealed.qualities[-1] - QUALITY_STEPS

    def write(self, quality_index: int) -> bytes:
        """The file at a position in the levels."""
        sent = self._send(quality_index, SymbolWriter)
        self.latents_sha256 = sent.bottleneck.latents.hexdigest()
        height, width = self.rgb.shape[:2]
        return pack(
            Container(
                width,
                height,
                self.sealed.header.decoder_id,
                sent.bottleneck.latents.crc,
                sent.sink.finish(),
                quality_index + QUALITY_STEPS,
                sent.bottleneck.skip_below > 0,
            )
        )

    def _refined(self, target: Target, quality_index: int) -> int:
        """Refine at the position that meets a target, and find the one that meets it then. Where none does, or what it
        gives is worse, the latents stay as they were, and so does the position."""
        before, shortfall = self.latents, self._shortfall(target, quality_index)
        self.refine(quality_index)
        found = self._quality_index(target)
        if not 0 <= found <= self.top or self._shortfall(target, found) > shortfall:
            self.latents, found = before, quality_index
        return found

    def _shortfall(self, target: Target, quality_index: int) -> float:
        """What files that meet a target are compared by, the less the better: a quality's were compared already."""
        if target.psnr_db is not None:
            return len(self.write(quality_index))
        return 0.0 if target.bytes is None and target.bpp is None else -self.psnr_db(quality_index)

    def refine(self, quality_index: int) -> None:
        """Spend the effort on a quality; where no better file comes of it, nothing changes."""
        with self.sealed.stopwatch.part("refinement"):
            self.latents = refine(self.sealed, to_tensor(self.rgb), self.latents, quality_index, self.effort)

    def loss(self, quality_index: int) -> float:
        """bpp + lambda 255^2 MSE of the real file and the decoded 8-bit picture."""
        rd_lambda = rd_lambda_at(self.sealed.header.config.rd_lambdas, quality_index)
        mse_255 = 255**2 * 10 ** (-self.psnr_db(quality_index) / 10)
        return 8 * len(self.write(quality_index)) / (self.rgb.shape[0] * self.rgb.shape[1]) + rd_lambda * mse_255

    def count_bytes(self, quality_index: int) -> int:
        """About how large the file will be: exact but for the coder's last words."""
        bits = self._send(quality_index, BitCounter).sink.bits
        return HEADER_BYTES + WORD_BYTES * math.ceil(bits / 8 / WORD_BYTES)

    def psnr_db(self, quality_index: int) -> float:
        """Of the decoded 8-bit picture; infinite where it is equal."""
        quality_db = psnr_db(self.rgb, self._picture(self._send(quality_index, BitCounter).y_hat, quality_index))
        return math.inf if quality_db is None else quality_db

    @torch.inference_mode()
    def reconstruct(self, data: bytes) -> tuple[RGB, float]:
        """What decoding a file of this encoding must give, found without decoding it, (H, W, 3) uint8, and the
        estimated bits of z and y."""
        container = unpack(data)
        quality_index = container.quality_index - QUALITY_STEPS
        bottleneck = RoundBottleneck(SKIP_SCALE_INDEX if container.skip else 0, self.sealed.rounding(quality_index))
        return self._picture(self._transmit(bottleneck, quality_index), quality_index), float(bottleneck.bits.sum())

    def _send(self, quality_index: int, sink: Callable[[], Sink]) -> SentLatents[Sink]:
        """Through a new sink, with skipping unless it costs too much."""
        sealed, rounding, sent = self.sealed, self.sealed.rounding(quality_index), list[SentLatents[Sink]]()

        def send(skip_below: int) -> EncodeBottleneck:
            taker = sink()
            bottleneck = EncodeBottleneck(taker, sealed.z_tables, sealed.y_tables, skip_below, rounding, sealed.stopwatch)
            sent.append(SentLatents(bottleneck, taker, self._transmit(bottleneck, quality_index)))
            return bottleneck

        try_skipping(send, self.latents.skip_below)
        return sent[-1]

    @torch.inference_mode()
    def _transmit(self, bottleneck: EncodeBottleneck | RoundBottleneck, quality_index: int) -> Tensor:
        codec, at, latents = self.sealed.codec, torch.tensor([quality_index]), self.latents
        with self.sealed.stopwatch.part("exact path"):
            return codec.transmit(bottleneck, at, codec.apply_gain(latents.units, at), latents.z)

    def _picture(self, y_hat: Tensor, quality_index: int) -> RGB:
        return to_rgb(self.sealed.synthesise(y_hat, quality_index, (self.rgb.shape[0], self.rgb.shape[1])))

    def _quality_index(self, target: Target) -> int:
        """The position that meets a target: -1 where even the smallest file is too large, top + 1 where even the best
        is not good enough."""
        if target.bytes is not None or target.bpp is not None:
            return self._largest_within(self._limit_bytes(target))
        if target.psnr_db is not None:
            wanted_db = target.psnr_db
            return self._highest(lambda quality_index: self.psnr_db(quality_index) < wanted_db) + 1
        default = min(DEFAULT_QUALITY, len(self.sealed.header.config.rd_lambdas))
        return self.sealed.quality_index(default if target.quality is None else target.quality)

    def _limit_bytes(self, target: Target) -> int:
        if target.bpp is not None:
            return int(min(target.bpp, BPP_MAX) * self.rgb.shape[0] * self.rgb.shape[1] / 8)
        return target.bytes or 0

    def _largest_within(self, limit_bytes: int) -> int:
        """The highest position whose file is not over the limit."""
        quality_index = self._highest(lambda quality_index: self.count_bytes(quality_index) <= limit_bytes)
        # The count leaves out the coder's last words: the file itself decides.
        while quality_index >= 0 and len(self.write(quality_index)) > limit_bytes:
            quality_index -= 1
        return quality_index

    def _highest(self, holds: Callable[[int], bool]) -> int:
        """The highest position at which `holds` is true, if it is true up to there and false beyond; -1 for none.

        At most 9 trials, ceil of log2 of the positions.
        """
        low, high = -1, self.top
        while low < high:
            middle = (low + high + 1) // 2
            if holds(middle):
                low = middle
            else:
                high = middle - 1
        return low
