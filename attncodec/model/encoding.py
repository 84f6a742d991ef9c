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
from attncodec.model.channel import BitCounter, Round, Write, try_skipping
from attncodec.model.coder import SymbolWriter
from attncodec.model.levels import rd_lambda_at
from attncodec.model.prior import SKIP_LEVEL
from attncodec.model.refinement import Latents, refine

if TYPE_CHECKING:
    from attncodec.model.sealed import SealedCodec

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
class Sent(Generic[Sink]):
    """What came of sending the latents: the channel, what took the symbols, and the latents as the decoder has them."""

    channel: Write
    sink: Sink
    y_hat: Tensor


class Encoding:
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
        position = self._position(target)
        if self.effort and 0 <= position <= self.top:
            position = self._refined(target, position)
        if position < 0:
            limit_bytes = self._limit_bytes(target)
            raise ConfigError(
                f"{limit_bytes} bytes are too few for this picture", f"its smallest file has {len(self.write(0))} bytes"
            )
        if position > self.top:
            raise ConfigError(
                f"{target.psnr_db:g} dB is out of reach for this picture",
                f"its best file has {self.psnr_db(self.top):.2f} dB",
            )
        return self.write(position)

    @property
    def top(self) -> int:
        """The highest position."""
        return self.sealed.qualities[-1] - QUALITY_STEPS

    def write(self, position: int) -> bytes:
        """The file at a position in the levels."""
        sent = self._send(position, SymbolWriter)
        self.latents_sha256 = sent.channel.latents.hexdigest()
        height, width = self.rgb.shape[:2]
        return pack(
            Container(
                width,
                height,
                self.sealed.header.decoder_id,
                sent.channel.latents.crc,
                sent.sink.finish(),
                position + QUALITY_STEPS,
                sent.channel.skip_below > 0,
            )
        )

    def _refined(self, target: Target, position: int) -> int:
        """Refine at the position that meets a target, and find the one that meets it then. Where none does, or what it
        gives is worse, the latents stay as they were, and so does the position."""
        before, shortfall = self.latents, self._shortfall(target, position)
        self.refine(position)
        found = self._position(target)
        if not 0 <= found <= self.top or self._shortfall(target, found) > shortfall:
            self.latents, found = before, position
        return found

    def _shortfall(self, target: Target, position: int) -> float:
        """What files that meet a target are compared by, the less the better: a quality's were compared already."""
        if target.psnr_db is not None:
            return len(self.write(position))
        return 0.0 if target.bytes is None and target.bpp is None else -self.psnr_db(position)

    def refine(self, position: int) -> None:
        """Spend the effort on a quality; where no better file comes of it, nothing changes."""
        with self.sealed.stopwatch.part("refinement"):
            self.latents = refine(self.sealed, to_tensor(self.rgb), self.latents, position, self.effort)

    def loss(self, position: int) -> float:
        """bpp + lambda 255^2 MSE of the real file and the decoded 8-bit picture."""
        rd_lambda = rd_lambda_at(self.sealed.header.config.rd_lambdas, position)
        mse_255 = 255**2 * 10 ** (-self.psnr_db(position) / 10)
        return 8 * len(self.write(position)) / (self.rgb.shape[0] * self.rgb.shape[1]) + rd_lambda * mse_255

    def count_bytes(self, position: int) -> int:
        """About how large the file will be: exact but for the coder's last words."""
        bits = self._send(position, BitCounter).sink.bits
        return HEADER_BYTES + WORD_BYTES * math.ceil(bits / 8 / WORD_BYTES)

    def psnr_db(self, position: int) -> float:
        """Of the decoded 8-bit picture; infinite where it is equal."""
        quality_db = psnr_db(self.rgb, self._picture(self._send(position, BitCounter).y_hat, position))
        return math.inf if quality_db is None else quality_db

    @torch.inference_mode()
    def reconstruct(self, data: bytes) -> tuple[RGB, float]:
        """What decoding a file of this encoding must give, found without decoding it, (H, W, 3) uint8, and the
        estimated bits of z and y."""
        container = unpack(data)
        position = container.quality_64 - QUALITY_STEPS
        channel = Round(SKIP_LEVEL if container.skip else 0, self.sealed.rounding(position))
        return self._picture(self._transmit(channel, position), position), float(channel.bits.sum())

    def _send(self, position: int, sink: Callable[[], Sink]) -> Sent[Sink]:
        """Through a new sink, with skipping unless it costs too much."""
        sealed, rounding, sent = self.sealed, self.sealed.rounding(position), list[Sent[Sink]]()

        def send(skip_below: int) -> Write:
            taker = sink()
            channel = Write(taker, sealed.z_tables, sealed.y_tables, skip_below, rounding, sealed.stopwatch)
            sent.append(Sent(channel, taker, self._transmit(channel, position)))
            return channel

        try_skipping(send, self.latents.skip_below)
        return sent[-1]

    @torch.inference_mode()
    def _transmit(self, channel: Write | Round, position: int) -> Tensor:
        codec, at, latents = self.sealed.codec, torch.tensor([position]), self.latents
        with self.sealed.stopwatch.part("exact path"):
            return codec.transmit(channel, at, codec.to_steps(latents.units, at), latents.z)

    def _picture(self, y_hat: Tensor, position: int) -> RGB:
        return to_rgb(self.sealed.synthesise(y_hat, position, (self.rgb.shape[0], self.rgb.shape[1])))

    def _position(self, target: Target) -> int:
        """The position that meets a target: -1 where even the smallest file is too large, top + 1 where even the best
        is not good enough."""
        if target.bytes is not None or target.bpp is not None:
            return self._largest_within(self._limit_bytes(target))
        if target.psnr_db is not None:
            wanted_db = target.psnr_db
            return self._highest(lambda position: self.psnr_db(position) < wanted_db) + 1
        default = min(DEFAULT_QUALITY, len(self.sealed.header.config.rd_lambdas))
        return self.sealed.position(default if target.quality is None else target.quality)

    def _limit_bytes(self, target: Target) -> int:
        if target.bpp is not None:
            return int(min(target.bpp, BPP_MAX) * self.rgb.shape[0] * self.rgb.shape[1] / 8)
        return target.bytes or 0

    def _largest_within(self, limit_bytes: int) -> int:
        """The highest position whose file is not over the limit."""
        position = self._highest(lambda position: self.count_bytes(position) <= limit_bytes)
        # The count leaves out the coder's last words: the file itself decides.
        while position >= 0 and len(self.write(position)) > limit_bytes:
            position -= 1
        return position

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
