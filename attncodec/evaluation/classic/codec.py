"""A classic codec is a format that Pillow, or a plugin of Pillow, writes and reads."""

import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image, features

from attncodec.pictures import RGB

Variant = Callable[[int], dict[str, Any]]  # This maps a quality, 1 to 100, to Pillow's options.


@dataclass(frozen=True)
class ClassicCodec:
    """Writes and reads a format with Pillow.

    Each of the `variants` returns Pillow's options for a quality of 1 to 100, and the best variant counts; their names
    tell them apart in results. `max_side`, in pixels, is the limit of the library: a larger picture cannot be written
    in this format. `feature` is what Pillow calls the library, and `plugin` the module of a `package` that adds the
    format to Pillow; without them the format is not available. `compared` codecs stand beside a model in
    `attncodec eval` unless it is told otherwise; all codecs are in the plots of training runs.
    """

    format: str
    variants: Mapping[str, Variant]
    max_side: int
    feature: str | None = None
    plugin: str | None = None
    package: str = ""
    compared: bool = False

    @property
    def available(self) -> bool:
        """Return whether this build of Pillow, with the plugin, writes the format."""
        if self.plugin:
            return find_spec(self.plugin) is not None
        return self.feature is None or bool(features.check(self.feature))

    @property
    def library(self) -> str:
        """Return the versions of what writes the format."""
        found = f"Pillow {version('pillow')}"
        if self.plugin:
            found += f", {self.package} {version(self.package)}"
        elif self.feature:
            found += f", {self.feature} {features.version(self.feature)}"
        return found

    def encode(self, rgb: RGB, quality: int, variant: Variant) -> bytes | None:
        """Encode a picture. Return None if the library cannot write its size or content."""
        if max(rgb.shape) > self.max_side:
            return None
        self._load_plugin()
        file, options = io.BytesIO(), variant(quality)
        try:
            Image.fromarray(rgb).save(file, self.format, **options)
        except (OSError, ValueError):
            return None
        return file.getvalue()

    def decode(self, data: bytes) -> RGB | None:
        """Decode what `encode` wrote to (H, W, 3) uint8. Return None if the library cannot."""
        self._load_plugin()
        try:
            with Image.open(io.BytesIO(data), formats=[self.format]) as image:
                return np.array(image.convert("RGB"), dtype=np.uint8)
        except (OSError, ValueError):
            return None

    def _load_plugin(self) -> None:
        if self.plugin:
            importlib.import_module(self.plugin)
