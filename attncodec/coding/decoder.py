"""This module decodes one picture from a file: it reads and checks the latents, then runs the synthesis."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from attncodec.coding.bottlenecks import DecodeBottleneck
from attncodec.coding.extras import unpack_extras
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.stripes import Send, StripeRows, send_all, stripe_rows, stripe_sender
from attncodec.container import MAX_PIXELS, Container, check_max_pixels, unpack
from attncodec.errors import ContainerError
from attncodec.networks.priors import SKIP_SCALE_INDEX
from attncodec.networks.transforms import STRIDE
from attncodec.pictures import RGB, Picture, Region, to_rgb
from attncodec.pictures.region import as_region
from attncodec.quality import quality_of_index
from attncodec.salvage import unpack_damaged

GREY = 128  # rows that are missing


class PictureDecoder:
    """Decodes the file of a picture with the model that wrote it.

    `latents_sha256` is the SHA-256, in hex, of the integer latents as int16 in coding order. It is the same on every
    machine, and is set once the latents are decoded. `missing` has the rows of what was decoded that are grey, for each
    stripe that was damaged or lost. `coarse` has those of a stripe that was cut: what was sent first is there, and
    details are not.
    """

    def __init__(self, sealed: SealedCodec, container: Container, salvage: bool = False) -> None:
        """Take a file. If `salvage`, a damaged stripe costs its own rows and not the picture.

        Raises ContainerError if another model wrote the file, or if this model does not have its quality.
        """
        if container.decoder_id != sealed.header.decoder_id:
            raise ContainerError(
                f"the file was written with model {container.decoder_id.hex()}, "
                f"but this model is {sealed.header.decoder_id.hex()}",
                "use --model to name the model that wrote it",
            )
        if container.quality_index not in sealed.quality_indices:
            raise ContainerError(f"this model has no quality {quality_of_index(container.quality_index):g}")
        self.sealed, self.container, self.salvage = sealed, container, salvage
        self.latents_sha256 = ""
        self.missing, self.coarse = list[slice](), list[slice]()

    def decode(self, region: Region | None = None) -> RGB:
        """Decode the picture, or a region of it, to (H, W, 3) uint8. Only the stripes that it depends on are read.

        Raises ContainerError as `read_latents` does, and ConfigError for a region that is not within the picture.
        """
        if region is not None:
            region.check(self.container.width, self.container.height)
        return self.sealed.in_memory(lambda area: self._decode(region, area))

    def _decode(self, region: Region | None, area: int) -> RGB:
        container, rows = self.container, self._stripes()
        self.missing, self.coarse = [], []
        size = (container.height, container.width)
        rgb = np.empty((*(size if region is None else (region.height, region.width)), 3), np.uint8)
        y_hat = StripeRows(self._sender(rows), rows)
        for strip, x in self.sealed.synthesise_rows(y_hat, container.quality_index, size, region, area):
            rgb[strip] = to_rgb(x, container.grey)
        top = 0 if region is None else region.y
        self.missing, self.coarse = (within(parts, top, len(rgb)) for parts in (self.missing, self.coarse))
        for part in self.missing:
            rgb[part] = GREY
        return rgb

    def decode_picture(self, region: Region | None = None) -> Picture:
        """Decode the picture, or a region of it, with its alpha and metadata. Raises as `decode` does."""
        return unpack_extras(self.container, self.decode(region), region)

    def read_latents(self) -> Tensor:
        """Decode y_hat as the synthesis takes it, (1, M, h, w).

        Raises ContainerError if the file is damaged, or if the decoded latents differ from those that were encoded.
        """
        rows = self._stripes()
        return send_all(self._sender(rows), rows)

    def _stripes(self) -> list[slice]:
        return stripe_rows(self.container.height, self.container.stripe_units)

    def _sender(self, rows: Sequence[slice]) -> Send:
        """Return a function that reads a stripe, checks it, and returns its y_hat."""
        sealed, container, sha256 = self.sealed, self.container, hashlib.sha256()
        bottlenecks = [
            DecodeBottleneck(
                sealed.z_tables,
                sealed.y_tables,
                SKIP_SCALE_INDEX if stripe.skip else 0,
                stripe.latents,
                sealed.stopwatch,
                sha256,
                stripe.cut,
            )
            for stripe in container.stripes
        ]
        width = -(-container.width // STRIDE)
        at = container.quality_index
        send_stripe = sealed.timed(stripe_sender(sealed.codec, bottlenecks.__getitem__, at, rows, width=width))

        def pixels(number: int) -> slice:
            return slice(STRIDE * rows[number].start, min(STRIDE * rows[number].stop, container.height))

        def send(number: int) -> Tensor:
            y_hat, bottleneck = send_stripe(number), bottlenecks[number]
            if container.stripes[number].cut:
                self.coarse.append(pixels(number))
                return y_hat
            bottleneck.reader.finish()
            if bottleneck.latents.crc != container.stripes[number].latents_crc:
                raise ContainerError(
                    "the checksum of the decoded latents does not match: the file or the model is damaged"
                )
            self.latents_sha256 = bottleneck.latents.hexdigest()
            return y_hat

        def send_if_whole(number: int) -> Tensor:
            try:
                return send(number)
            except ContainerError:
                part = rows[number]
                self.missing.append(pixels(number))
                return torch.zeros(1, sealed.header.config.latent_channels, part.stop - part.start, width)

        return send_if_whole if self.salvage else send


def within(parts: Sequence[slice], top: int, height: int) -> list[slice]:
    """Return the rows of a region that lie in rows of a picture, counted from the top of the region."""
    found = [slice(max(part.start - top, 0), min(part.stop - top, height)) for part in parts]
    return [part for part in found if part.start < part.stop]


@dataclass(frozen=True)
class Decoded:
    """A picture that was decoded, with which model, and rows of it, each (first, last + 1), that are not as they were.

    `missing_rows` are grey, and `coarse_rows` lack details.
    """

    picture: Picture
    sealed: SealedCodec
    missing_rows: tuple[tuple[int, int], ...]
    coarse_rows: tuple[tuple[int, int], ...]


def decode_file(
    data: bytes,
    model_for: Callable[[Container], SealedCodec],
    region: tuple[int, int, int, int] | None = None,
    salvage: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Decoded:
    """Decode the bytes of an .atc file, or a region (x, y, width, height) of it, or what is left of it.

    Raises ContainerError if it is damaged or has more than `max_pixels`, both sides rounded up to multiples of 64, and
    ConfigError for a region that is not within the picture.
    """
    limit = check_max_pixels(max_pixels)
    container, notes = unpack_damaged(data, limit) if salvage else (unpack(data, limit), ())
    decoder = PictureDecoder(model_for(container), container, salvage)
    picture = decoder.decode_picture(None if region is None else as_region(region))
    missing, coarse = (tuple((part.start, part.stop) for part in parts) for parts in (decoder.missing, decoder.coarse))
    return Decoded(replace(picture, notes=(*notes, *picture.notes)), decoder.sealed, missing, coarse)


def decompress(sealed: SealedCodec, data: bytes) -> RGB:
    """Decode the bytes of an .atc file to (H, W, 3) uint8. Raises ContainerError, also if another model wrote it."""
    return PictureDecoder(sealed, unpack(data)).decode()
