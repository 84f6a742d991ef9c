"""A picture as it is compressed: 8 bits of colour, and what else a file says that is kept."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]  # (H, W, 3)
Plane = NDArray[np.uint8]  # (H, W)


@dataclass(frozen=True)
class Picture:
    """Colours, transparency and metadata, upright.

    `rgb` (H, W, 3) is in the space of `icc`, or in sRGB without it. A grey picture has three equal channels, has `grey`
    set, and perhaps a grey profile. `alpha` (H, W) is None if every pixel is opaque. `exif` is a TIFF structure whose
    orientation is 1, `xmp` an XML packet, and `dpi` the dots per inch across and down. `notes` say what was converted
    or left out on the way from the file.
    """

    rgb: RGB
    alpha: Plane | None = None
    grey: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        return self.rgb.shape[1]

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        return self.rgb.shape[0]
