"""A classic codec is a format that Pillow writes and reads."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, features

from attncodec.pictures import RGB

Variant = Callable[[int], dict[str, Any]]  # This maps a quality, 1 to 100, to Pillow's options.


@dataclass(frozen=True)
class ClassicCodec:
    """Writes and reads a format with Pillow.

    Each of the `variants` returns Pillow's options for a quality of 1 to 100, and the best variant counts. `max_side`,
    in pixels, is the limit of the library: a larger picture cannot be written in this format. `feature` is what Pillow
    calls the library, and None if every build has it. `compared` codecs stand beside a model in `attncodec eval`, at
    the sizes of its files; all codecs are in the plots of training runs.
    """

    format: str
    variants: tuple[Variant, ...]
    max_side: int
    feature: str | None = None
    compared: bool = False

    @property
    def available(self) -> bool:
        """Return whether this build of Pillow writes the format."""
        return self.feature is None or bool(features.check(self.feature))

    def encode(self, rgb: RGB, quality: int, variant: Variant) -> bytes | None:
        """Encode a picture. Return None if the library cannot write its size or content."""
        if max(rgb.shape) > self.max_side:
            return None
        file, options = io.BytesIO(), variant(quality)
        try:
            Image.fromarray(rgb).save(file, self.format, **options)
        except (OSError, ValueError):
            return None
        return file.getvalue()

    def decode(self, data: bytes) -> RGB | None:
        """Decode what `encode` wrote to (H, W, 3) uint8. Return None if the library cannot."""
        try:
            with Image.open(io.BytesIO(data), formats=[self.format]) as image:
                return np.array(image.convert("RGB"), dtype=np.uint8)
        except (OSError, ValueError):
            return None
