"""One picture on its way into a file: the quality that meets a target, and what is skipped.

The analysis runs once; trials count bits from the tables, without coding.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

from attncodec.config import QUALITY_STEPS
from attncodec.container import HEADER_BYTES, Container, pack
from attncodec.errors import ConfigError
from attncodec.images import RGB, to_rgb, to_tensor
from attncodec.metrics import psnr_db
from attncodec.model.channel import BitCounter, Write
from attncodec.model.coder import SymbolWriter
from attncodec.model.prior import SKIP_LEVEL

if TYPE_CHECKING:
    from attncodec.model.sealed import SealedCodec

DEFAULT_QUALITY = 4.0
SKIP_COST_DB = 0.02  # where skipping costs more than this, nothing is skipped
WORD_BYTES = 4


@dataclass(frozen=True)
class Target:
    """What is asked of a file: one of these, or nothing, which is quality 4 (or the highest that the model has)."""

    quality: float | None = None
    bytes: int | None = None
    bpp: float | None = None
    psnr_db: float | None = None


Sink = TypeVar("Sink", SymbolWriter, BitCounter)


@dataclass(frozen=True)
class Sent(Generic[Sink]):
    """What came of sending the latents: the channel, what took the symbols, and the latents as the decoder has them."""

    channel: Write
    sink: Sink
    y_hat: Tensor


class Encoding:
    """A picture, analysed. `latents_sha256` is that of the file written last, for comparison with a decoder's."""

    @torch.inference_mode()
    def __init__(self, sealed: "SealedCodec", rgb: RGB) -> None:
        self.sealed, self.rgb = sealed, rgb
        self.units = sealed.codec.analyse(to_tensor(rgb))
        self.latents_sha256 = ""

    def find(self, target: Target) -> bytes:
        """The file. Raises ConfigError for a quality that the model has not, and for a target out of reach, saying what
        can be reached."""
        if target.bpp is not None:
            target = Target(bytes=int(target.bpp * self.rgb.shape[0] * self.rgb.shape[1] / 8))
        if target.bytes is not None:
            return self._largest_within(target.bytes)
        if target.psnr_db is not None:
            return self._smallest_above(target.psnr_db)
        default = min(DEFAULT_QUALITY, len(self.sealed.header.config.levels))
        return self.write(self.sealed.position(default if target.quality is None else target.quality))

    def write(self, position: int) -> bytes:
        """The file at a position in the levels."""
        sent = self._send(position, SymbolWriter)
        self.latents_sha256 = sent.channel.latents.hexdigest()
        height, width = self.rgb.shape[:2]
        return pack(
            Container(
                width,
                height,
                self.sealed.header.digest,
                sent.channel.latents.crc,
                sent.sink.finish(),
                position + QUALITY_STEPS,
                sent.channel.skip_below > 0,
            )
        )

    def count_bytes(self, position: int) -> int:
        """About how large the file will be: exact but for the coder's last words."""
        bits = self._send(position, BitCounter).sink.bits
        return HEADER_BYTES + WORD_BYTES * math.ceil(bits / 8 / WORD_BYTES)

    @torch.inference_mode()
    def psnr_db(self, position: int) -> float:
        """Of the decoded 8-bit picture; infinite where it is equal."""
        y_hat = self._send(position, BitCounter).y_hat
        size = (self.rgb.shape[0], self.rgb.shape[1])
        decoded = to_rgb(self.sealed.codec.decode(y_hat, torch.tensor([position]), size))
        quality_db = psnr_db(self.rgb, decoded)
        return math.inf if quality_db is None else quality_db

    @torch.inference_mode()
    def _send(self, position: int, sink: Callable[[], Sink]) -> Sent[Sink]:
        """Through a new sink, with skipping unless it costs too much."""
        at = torch.tensor([position])
        y = self.sealed.codec.to_steps(self.units, at)
        for skip_below in (SKIP_LEVEL, 0):
            channel = Write(taker := sink(), self.sealed.z_tables, self.sealed.y_tables, skip_below)
            y_hat = self.sealed.codec.transmit(channel, at, y)
            if channel.skip_cost_db <= SKIP_COST_DB:
                break
        return Sent(channel, taker, y_hat)

    def _largest_within(self, limit_bytes: int) -> bytes:
        """The highest quality whose file is not over the limit."""
        position = self._highest(lambda position: self.count_bytes(position) <= limit_bytes)
        # The count leaves out the coder's last words: the file itself decides.
        while position >= 0:
            data = self.write(position)
            if len(data) <= limit_bytes:
                return data
            position -= 1
        least = len(self.write(0))
        raise ConfigError(f"{limit_bytes} bytes are too few for this picture", f"its smallest file has {least} bytes")

    def _smallest_above(self, target_db: float) -> bytes:
        """The lowest quality whose picture is at least that good."""
        top = self.sealed.qualities[-1] - QUALITY_STEPS
        position = self._highest(lambda position: self.psnr_db(position) < target_db) + 1
        if position > top:
            best_db = self.psnr_db(top)
            raise ConfigError(
                f"{target_db:g} dB is out of reach for this picture", f"its best file has {best_db:.2f} dB"
            )
        return self.write(position)

    def _highest(self, holds: Callable[[int], bool]) -> int:
        """The highest position at which `holds` is true, if it is true up to there and false beyond; -1 for none.

        At most 9 trials, ceil of log2 of the positions.
        """
        low, high = -1, self.sealed.qualities[-1] - QUALITY_STEPS
        while low < high:
            middle = (low + high + 1) // 2
            if holds(middle):
                low = middle
            else:
                high = middle - 1
        return low
