"""This module decodes one picture from a file: it reads and checks the latents, then runs the synthesis."""

import torch
from torch import Tensor

from attncodec.coding.bottlenecks import DecodeBottleneck
from attncodec.coding.sealed import SealedCodec
from attncodec.container import Container, unpack
from attncodec.errors import ContainerError
from attncodec.networks.priors import SKIP_SCALE_INDEX
from attncodec.networks.transforms import STRIDE
from attncodec.pictures import RGB, to_rgb
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
        return to_rgb(self.sealed.synthesise(self.read_latents(), self.container.quality_index, size))

    @torch.inference_mode()
    def read_latents(self) -> Tensor:
        """Decode y_hat as the synthesis takes it, (1, M, h, w).

        Raises ContainerError if the file is damaged, or if the decoded latents differ from those that were encoded.
        """
        sealed, container = self.sealed, self.container
        skip_below = SKIP_SCALE_INDEX if container.skip else 0
        bottleneck = DecodeBottleneck(sealed.z_tables, sealed.y_tables, skip_below, container.latents, sealed.stopwatch)
        size = (-(-container.height // STRIDE), -(-container.width // STRIDE))
        with sealed.stopwatch.part("integer networks"):
            y_hat = sealed.codec.transmit(bottleneck, torch.tensor([container.quality_index]), size=size)
        bottleneck.reader.finish()
        if bottleneck.latents.crc != container.latents_crc:
            raise ContainerError("the checksum of the decoded latents does not match: the file or the model is damaged")
        self.latents_sha256 = bottleneck.latents.hexdigest()
        return y_hat


def decompress(sealed: SealedCodec, data: bytes) -> RGB:
    """Decode the bytes of an .atc file to (H, W, 3) uint8. Raises ContainerError, also if another model wrote it."""
    return PictureDecoder(sealed, unpack(data)).decode()
