"""This module decodes one picture from a file: it reads and checks the latents, then runs the synthesis."""

import hashlib

import torch
from torch import Tensor

from attncodec.coding.bottlenecks import DecodeBottleneck
from attncodec.coding.extras import unpack_extras
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.stripes import stripe_rows, transmit_stripes
from attncodec.container import Container, unpack
from attncodec.errors import ContainerError
from attncodec.networks.priors import SKIP_SCALE_INDEX
from attncodec.networks.transforms import STRIDE
from attncodec.pictures import RGB, Picture, to_rgb
from attncodec.quality import quality_of_index


class PictureDecoder:
    """Decodes the file of a picture with the model that wrote it.

    `latents_sha256` is the SHA-256, in hex, of the integer latents as int16 in coding order. It is the same on every
    machine, and is set once the latents are decoded.
    """

    def __init__(self, sealed: SealedCodec, container: Container) -> None:
        """Raise ContainerError if another model wrote the file, or if this model does not have its quality."""
        if container.decoder_id != sealed.header.decoder_id:
            raise ContainerError(
                f"the file was written with model {container.decoder_id.hex()}, "
                f"but this model is {sealed.header.decoder_id.hex()}",
                "use --model to name the model that wrote it",
            )
        if container.quality_index not in sealed.quality_indices:
            raise ContainerError(f"this model has no quality {quality_of_index(container.quality_index):g}")
        self.sealed, self.container = sealed, container
        self.latents_sha256 = ""

    def decode(self) -> RGB:
        """Decode the picture to (H, W, 3) uint8. Raises ContainerError as `read_latents` does."""
        size = (self.container.height, self.container.width)
        x = self.sealed.synthesise(self.read_latents(), self.container.quality_index, size)
        return to_rgb(x, self.container.grey)

    def decode_picture(self) -> Picture:
        """Decode the picture with its alpha and metadata. Raises ContainerError."""
        return unpack_extras(self.container, self.decode())

    @torch.inference_mode()
    def read_latents(self) -> Tensor:
        """Decode y_hat as the synthesis takes it, (1, M, h, w).

        Raises ContainerError if the file is damaged, or if the decoded latents differ from those that were encoded.
        """
        sealed, container, sha256 = self.sealed, self.container, hashlib.sha256()
        bottlenecks = [
            DecodeBottleneck(
                sealed.z_tables,
                sealed.y_tables,
                SKIP_SCALE_INDEX if stripe.skip else 0,
                stripe.latents,
                sealed.stopwatch,
                sha256,
            )
            for stripe in container.stripes
        ]
        rows, width = stripe_rows(container.height, container.stripe_units), -(-container.width // STRIDE)
        with sealed.stopwatch.part("integer networks"):
            y_hat = transmit_stripes(sealed.codec, bottlenecks.__getitem__, container.quality_index, rows, width=width)
        for bottleneck, stripe in zip(bottlenecks, container.stripes, strict=True):
            bottleneck.reader.finish()
            if bottleneck.latents.crc != stripe.latents_crc:
                raise ContainerError(
                    "the checksum of the decoded latents does not match: the file or the model is damaged"
                )
        self.latents_sha256 = sha256.hexdigest()
        return y_hat


def decompress(sealed: SealedCodec, data: bytes) -> RGB:
    """Decode the bytes of an .atc file to (H, W, 3) uint8. Raises ContainerError, also if another model wrote it."""
    return PictureDecoder(sealed, unpack(data)).decode()
