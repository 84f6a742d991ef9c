"""Importing this module teaches Pillow the .atc format.

    import attncodec.pillow

    Image.open("img.atc")                # reads the file; its pixels are decoded when they are asked for
    image.save("img.atc", quality=5)     # or target_bpp, target_bytes, target_psnr_db, effort, strip, model

As in Pillow's own formats, icc_profile, exif, xmp and dpi replace what the image has in `info`, and None drops it. A
file is decoded with the model that wrote it, which is looked for as `attncodec decompress` does.
"""

import contextlib
import functools
from typing import IO, Any

from PIL import Image, ImageFile

from attncodec.api import Codec, load
from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.extras import unpack_metadata
from attncodec.coding.find_model import ModelCache
from attncodec.container import ALPHA, ICC, MAGIC, Container, unpack
from attncodec.errors import AttncodecError
from attncodec.pictures import to_image
from attncodec.pictures.metadata import BROKEN_EXIF
from attncodec.pictures.writing import info_of
from attncodec.quality import quality_of_index

FORMAT = "ATC"
METADATA = {"icc_profile": ["icc_profile"], "exif": ["exif"], "xmp": ["xmp", "XML:com.adobe.xmp"], "dpi": ["dpi"]}
OPTIONS = ("quality", "target_bpp", "target_bytes", "target_psnr_db", "effort", "strip")
MODELS = ModelCache(None)
MODES = {(False, False): "RGB", (False, True): "RGBA", (True, False): "L", (True, True): "LA"}  # by grey and alpha


class AtcImageFile(ImageFile.ImageFile):
    """An .atc file that Pillow opens. `container` is None once its pixels are decoded, and in a copy."""

    format = FORMAT
    format_description = "attncodec"
    container: Container | None = None

    def _open(self) -> None:
        assert self.fp is not None
        try:
            container = unpack(self.fp.read())
            metadata = unpack_metadata(container)
        except AttncodecError as error:
            raise SyntaxError(str(error)) from None
        self._size = (container.width, container.height)
        self._mode = MODES[container.grey, ALPHA in container.extras]
        self.info["quality"] = quality_of_index(container.quality_index)
        self.info.update(info_of(container.extras.get(ICC), metadata.exif, metadata.xmp, metadata.dpi))
        self.container = container

    def load(self) -> Any:
        """Decode the pixels, once. Raises OSError if the file is damaged or its model is missing."""
        if self.container is not None:
            try:
                sealed = MODELS.model_for(self.container)
                picture = PictureDecoder(sealed, self.container).decode_picture()
            except AttncodecError as error:
                raise OSError(f"{error} ({error.hint})") from None
            self.im, self.container = to_image(picture).im, None
            if self._exclusive_fp and self.fp is not None:  # Pillow has opened the file, and nobody else reads it.
                self.fp.close()
                self.fp = None
        return Image.Image.load(self)

    def close(self) -> None:
        """Close the file and forget the pixels, which cannot be loaded afterwards."""
        self.container = None
        super().close()


@functools.cache
def _codec(model: str | None) -> Codec:
    return load(model)


def _save(image: Image.Image, file: IO[bytes], name: str | bytes) -> None:
    given = image.encoderinfo
    options = {option: given[option] for option in OPTIONS if option in given}
    try:
        file.write(_codec(given.get("model")).compress(_with_metadata(image, given), **options))
    except AttncodecError as error:
        raise ValueError(f"{error} ({error.hint})") from None


def _with_metadata(image: Image.Image, given: dict[str, Any]) -> Image.Image:
    """Return an image whose profile and metadata are those that were given, if any. Raises ValueError for others."""
    changes = {name: given[name] for name in METADATA if name in given}
    if not changes:
        return image
    with contextlib.suppress(*BROKEN_EXIF):  # A copy has only what is in `info`, where a TIFF has no EXIF.
        changes.setdefault("exif", image.getexif())
    if isinstance(changes.get("exif"), Image.Exif):
        changes["exif"] = changes["exif"].tobytes() if changes["exif"] else None
    changed = image.copy()
    for name, value in changes.items():
        if value and name != "dpi" and not isinstance(value, bytes):
            raise ValueError(f"{name} must be bytes, not {type(value).__name__}")
        for key in METADATA[name]:
            changed.info.pop(key, None)
        if value:
            changed.info[name] = value
    return changed


Image.register_open(FORMAT, AtcImageFile, lambda prefix: prefix.startswith(MAGIC))
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".atc")
Image.register_mime(FORMAT, "image/x-atc")
