"""This module encodes one picture: it finds the quality that meets a target, decides on skipping, and spends effort.

The analysis runs once. The search for a quality counts bits from the tables; real files then decide.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from attncodec.coding.bottlenecks import BitCounter, EncodeBottleneck, try_skipping
from attncodec.coding.extras import pack_extras
from attncodec.coding.range_coder import SymbolWriter
from attncodec.coding.refinement import REFINEMENT_SCHEDULES, Latents, refine
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.stripes import PictureRows, Send, StripeRows, stripe_rows, stripe_sender, z_rows
from attncodec.coding.target import Target as Target
from attncodec.container import Container, Stripe, overhead_bytes, pack, stripe_units
from attncodec.errors import CheckpointError, ConfigError
from attncodec.metrics.psnr import mse_to_psnr_db, squared_error
from attncodec.networks.bottleneck import Bottleneck, RoundBottleneck
from attncodec.networks.priors import SKIP_SCALE_INDEX
from attncodec.networks.strips import Rows
from attncodec.networks.transforms import STRIDE
from attncodec.pictures import RGB, Picture, to_rgb, to_tensor
from attncodec.pictures.colour import smooth_transparent
from attncodec.quality import rd_lambda_at

DEFAULT_QUALITY = 4.0
WORD_BYTES = 4
BPP_MAX = 1e6  # A target beyond this allows any file, and its bytes would overflow.


Sink = TypeVar("Sink", SymbolWriter, BitCounter)


@dataclass(frozen=True)
class SentLatents(Generic[Sink]):
    """Holds the result of sending latents: for each stripe its bottleneck and the symbols' sink."""

    bottlenecks: list[EncodeBottleneck]
    sinks: list[Sink]


class PictureEncoder:
    """Analyses a picture once, and encodes it.

    `latents_sha256` is the SHA-256 of the integer latents in the last file that was written, as in PictureDecoder.
    """

    def __init__(self, sealed: SealedCodec, picture: Picture | RGB, effort: int = 0) -> None:
        """Analyse a picture, or colours (H, W, 3) uint8 alone.

        `effort`, 0 to 3, sets how long latents are refined (refinement.py). Colours of transparent pixels
        become smooth ones. Raises ConfigError for another effort.
        """
        if not 0 <= effort < len(REFINEMENT_SCHEDULES):
            raise ConfigError(f"there is no effort {effort}", f"choose one from 0 to {len(REFINEMENT_SCHEDULES) - 1}")
        picture = picture if isinstance(picture, Picture) else Picture(picture)
        rgb = picture.rgb if picture.alpha is None else smooth_transparent(picture.rgb, picture.alpha)
        self.sealed, self.rgb, self.effort = sealed, rgb, effort
        self.grey, self.extras = picture.grey, pack_extras(picture)
        self.units = stripe_units(rgb.shape[1], rgb.shape[0])
        self.rows = stripe_rows(rgb.shape[0], self.units)
        self.latents = self.unrefined = Latents(sealed.analyse_rows(PictureRows(rgb), rgb.shape[1]))
        if not all(math.isfinite(bound) for bound in torch.aminmax(self.latents.y.permute(0, 2, 3, 1))):
            raise CheckpointError("the model is damaged: its analysis gives values that are not finite")
        self.latents_sha256 = ""

    def encode(self, target: Target) -> Container:
        """Make the file that meets a target.

        Raises ConfigError for a quality that the model does not have, and for a target that cannot be reached. The
        error then says what can be reached.
        """
        self.latents = self.unrefined
        quality_index = self._index_of(target)
        if self.effort and quality_index in self.sealed.quality_indices:
            quality_index = self._refined(target, quality_index)
        if quality_index < self.lowest:
            limit_bytes, smallest = self._limit_bytes(target), len(pack(self.write(self.lowest)))
            raise ConfigError(
                f"{limit_bytes} bytes are too few for this picture", f"its smallest file has {smallest} bytes"
            )
        if quality_index > self.highest:
            raise ConfigError(
                f"{target.psnr_db:g} dB cannot be reached for this picture",
                f"its best file has {self.psnr_db(self.highest):.2f} dB",
            )
        return self.write(quality_index)

    @property
    def lowest(self) -> int:
        """Return the lowest quality index of the model."""
        return self.sealed.quality_indices[0]

    @property
    def highest(self) -> int:
        """Return the highest quality index of the model."""
        return self.sealed.quality_indices[-1]

    def write(self, quality_index: int) -> Container:
        """Make the file for a quality index."""
        sent = self._send(quality_index, SymbolWriter)
        self.latents_sha256 = sent.bottlenecks[-1].latents.hexdigest()
        height, width = self.rgb.shape[:2]
        stripes = tuple(
            Stripe(sink.finish(), bottleneck.latents.crc, bottleneck.skip_below > 0)
            for bottleneck, sink in zip(sent.bottlenecks, sent.sinks, strict=True)
        )
        decoder_id = self.sealed.header.decoder_id
        return Container(width, height, decoder_id, quality_index, self.units, stripes, self.grey, self.extras)

    def file_bytes(self, quality_index: int) -> int:
        """Return the number of bytes of the file for a quality index."""
        return len(pack(self.write(quality_index)))

    def _refined(self, target: Target, quality_index: int) -> int:
        """Refine at the quality that meets a target, and return the quality index that meets it afterwards.

        If none does, or if its file is worse, the latents and the quality stay as they were.
        """
        before, shortfall = self.latents, self._shortfall(target, quality_index)
        self.refine(quality_index)
        found = self._index_of(target)
        if found not in self.sealed.quality_indices or self._shortfall(target, found) > shortfall:
            self.latents, found = before, quality_index
        return found

    def _shortfall(self, target: Target, quality_index: int) -> float:
        """Return the number by which files that meet a target are compared. Lower is better.

        It is 0 if the target is a quality, because `refine` has already compared the files of one quality.
        """
        if target.psnr_db is not None:
            return self.file_bytes(quality_index)
        return 0.0 if target.bytes is None and target.bpp is None else -self.psnr_db(quality_index)

    def refine(self, quality_index: int) -> None:
        """Refine the latents of each stripe for a quality index. Where that gives nothing better, they stay."""
        skip_below = self._send(quality_index, BitCounter).bottlenecks[0].skip_below
        y, z, parts, better = self.latents.y.clone(), self.latents.z, list[Tensor](), False
        with self.sealed.stopwatch.part("refinement"):
            for part in self.rows:
                x = to_tensor(self.rgb[STRIDE * part.start : STRIDE * part.stop])
                before = Latents(y[..., part, :], None if z is None else z[..., z_rows(part), :], skip_below)
                after = refine(self.sealed, x, before, quality_index, self.effort)
                y[..., part, :] = after.y
                parts.append(self.sealed.codec.hyper_analysis(after.y) if after.z is None else after.z)
                better |= after is not before
        if better:
            self.latents = Latents(y, torch.cat(parts, dim=2), skip_below)

    def loss(self, quality_index: int) -> float:
        """Compute bpp + lambda 255^2 MSE of the real file and the decoded 8-bit picture."""
        rd_lambda = rd_lambda_at(self.sealed.header.config.rd_lambdas, quality_index)
        mse_255 = 255**2 * 10 ** (-self.psnr_db(quality_index) / 10)
        pixels = self.rgb.shape[0] * self.rgb.shape[1]
        return 8 * self.file_bytes(quality_index) / pixels + rd_lambda * mse_255

    def count_bytes(self, quality_index: int) -> int:
        """Estimate the size of the file in bytes. It is exact except for the last words of the coder."""
        sinks = self._send(quality_index, BitCounter).sinks
        stripes = [WORD_BYTES * math.ceil(sink.bits / 8 / WORD_BYTES) for sink in sinks]
        extras, (height, width) = [len(body) for body in self.extras.values()], self.rgb.shape[:2]
        return sum(stripes) + sum(extras) + overhead_bytes(width, height, quality_index, stripes, extras)

    def psnr_db(self, quality_index: int) -> float:
        """Compute the PSNR of the decoded 8-bit picture. It is infinite if the pictures are equal."""
        errors = list[int]()

        def compare(y_hat: Rows) -> None:
            strips = self._strips(y_hat, quality_index)
            errors.append(sum(squared_error(self.rgb[rows], strip) for rows, strip in strips))

        self._send(quality_index, BitCounter, compare)
        return mse_to_psnr_db(errors[-1] / self.rgb.size) if errors[-1] else math.inf

    def reconstruct(self, container: Container) -> tuple[RGB, float]:
        """Compute what decoding a file of this picture must give, without decoding it.

        Returns the picture (H, W, 3) uint8, and the estimated bits of z and y.
        """
        quality_index = container.quality_index
        rounding = self.sealed.rounding(quality_index)
        bottlenecks = [RoundBottleneck(SKIP_SCALE_INDEX if s.skip else 0, rounding) for s in container.stripes]
        rgb = np.empty_like(self.rgb)
        for rows, strip in self._strips(StripeRows(self.sender(bottlenecks, quality_index), self.rows), quality_index):
            rgb[rows] = strip
        return rgb, sum(float(bottleneck.bits.sum()) for bottleneck in bottlenecks)

    def _send(
        self, quality_index: int, sink: Callable[[], Sink], take: Callable[[Rows], None] | None = None
    ) -> SentLatents[Sink]:
        """Send the latents into a new sink for each stripe, with skipping unless it costs too much.

        `take`, if it is given, must ask for all rows of y_hat. It may be called twice, and the last call counts.
        """
        sealed, rounding, sent = self.sealed, self.sealed.rounding(quality_index), list[SentLatents[Sink]]()

        def send(skip_below: int) -> list[EncodeBottleneck]:
            sinks, sha256 = [sink() for _ in self.rows], hashlib.sha256()
            tables = (sealed.z_tables, sealed.y_tables)
            bottlenecks = [
                EncodeBottleneck(taker, *tables, skip_below, rounding, sealed.stopwatch, sha256) for taker in sinks
            ]
            send_stripe = self.sender(bottlenecks, quality_index)
            if take is None:
                for number in range(len(self.rows)):
                    send_stripe(number)
            else:
                take(StripeRows(send_stripe, self.rows))
            sent.append(SentLatents(bottlenecks, sinks))
            return bottlenecks

        try_skipping(send, self.latents.skip_below)
        return sent[-1]

    def sender(self, bottlenecks: Sequence[Bottleneck], quality_index: int) -> Send:
        """Return a function that sends the latents of a stripe through the bottleneck of its number."""
        codec, latents, at = self.sealed.codec, self.latents, torch.tensor([quality_index])

        def y_of(part: slice) -> Tensor:
            return codec.apply_gain(latents.y[..., part, :], at)

        return self.sealed.timed(
            stripe_sender(codec, bottlenecks.__getitem__, quality_index, self.rows, y_of, latents.z)
        )

    def _strips(self, y_hat: Rows, quality_index: int) -> Iterator[tuple[slice, RGB]]:
        """Decode y_hat. Yields the rows of each strip of the picture, and the strip."""
        strips = self.sealed.synthesise_rows(y_hat, quality_index, (self.rgb.shape[0], self.rgb.shape[1]))
        return ((rows, to_rgb(x, self.grey)) for rows, x in strips)

    def _index_of(self, target: Target) -> int:
        """Find the quality index that meets a target.

        The result is one below the lowest if even the smallest file is too large, and one above the highest if even
        the best file is not good enough.
        """
        if target.bytes is not None or target.bpp is not None:
            return self._largest_within(self._limit_bytes(target))
        if target.psnr_db is not None:
            wanted_db = target.psnr_db
            return self._bisect_quality(lambda quality_index: self.psnr_db(quality_index) < wanted_db) + 1
        default = min(DEFAULT_QUALITY, len(self.sealed.header.config.rd_lambdas))
        return self.sealed.quality_index(default if target.quality is None else target.quality)

    def _limit_bytes(self, target: Target) -> int:
        if target.bpp is not None:
            return int(min(target.bpp, BPP_MAX) * self.rgb.shape[0] * self.rgb.shape[1] / 8)
        return target.bytes or 0

    def _largest_within(self, limit_bytes: int) -> int:
        """Find the highest quality index whose file is within the limit."""
        quality_index = self._bisect_quality(lambda quality_index: self.count_bytes(quality_index) <= limit_bytes)
        # The count leaves out the last words of the coder, so the size of the real file decides.
        while quality_index >= self.lowest and self.file_bytes(quality_index) > limit_bytes:
            quality_index -= 1
        return quality_index

    def _bisect_quality(self, holds: Callable[[int], bool]) -> int:
        """Find the highest quality index at which `holds` is true. It must be true up to there and false beyond.

        The result is one below the lowest if `holds` is never true. The number of trials is at most the ceiling of log2
        of the number of indices, which is 9 for 8 levels.
        """
        low, high = self.lowest - 1, self.highest
        while low < high:
            middle = (low + high + 1) // 2
            if holds(middle):
                low = middle
            else:
                high = middle - 1
        return low


def compress(sealed: SealedCodec, picture: Picture | RGB, target: Target | None = None, effort: int = 0) -> bytes:
    """Encode a picture, or colours (H, W, 3) uint8, of any size to an .atc file that meets the target.

    More `effort`, 0 to 3, makes files smaller or better, and the encoder slower. Raises ConfigError for a quality out
    of range, or a target that cannot be reached.
    """
    return pack(PictureEncoder(sealed, picture, effort).encode(target or Target()))


def reconstruct(sealed: SealedCodec, rgb: RGB, quality_index: int) -> tuple[RGB, float]:
    """Compute the picture that the file for a quality index decodes to, and the estimated bits of z and y."""
    encoder = PictureEncoder(sealed, rgb)
    return encoder.reconstruct(encoder.write(quality_index))
