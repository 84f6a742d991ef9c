"""Importing this module teaches Pillow the .atc format.

    import attncodec.pillow

    Image.open("img.atc")                # reads the file; its pixels are decoded when they are asked for
    image.save("img.atc", quality=5)     # or target_bpp, target_bytes, target_psnr_db, effort, strip, model

A file is decoded with the model that wrote it, which is looked for as `attncodec decompress` does.
"""

import functools
from typing import IO, Any

from PIL import Image, ImageFile

from attncodec.api import Codec, load
from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.extras import unpack_extras
from attncodec.coding.find_model import ModelCache
from attncodec.container import ALPHA, MAGIC, unpack
from attncodec.errors import AttncodecError
from attncodec.pictures import to_image
from attncodec.quality import quality_of_index

FORMAT = "ATC"
OPTIONS = ("quality", "target_bpp", "target_bytes", "target_psnr_db", "effort", "strip")
MODELS = ModelCache(None)
MODES = {(False, False): "RGB", (False, True): "RGBA", (True, False): "L", (True, True): "LA"}  # by grey and alpha


class AtcImageFile(ImageFile.ImageFile):
    """An .atc file that Pillow opens."""

    format = FORMAT
    format_description = "attncodec"

    def _open(self) -> None:
        assert self.fp is not None
        try:
            self.container = unpack(self.fp.read())
        except AttncodecError as error:
            raise SyntaxError(str(error)) from None
        self._size = (self.container.width, self.container.height)
        self._mode = MODES[self.container.grey, ALPHA in self.container.extras]
        self.info["quality"] = quality_of_index(self.container.quality_index)
        self.decoded = False

    def load(self) -> Any:
        """Decode the pixels, once. Raises OSError if the file is damaged or its model is missing."""
        if not self.decoded:
            try:
                sealed = MODELS.model_for(self.container)
                image = to_image(unpack_extras(self.container, PictureDecoder(sealed, self.container).decode()))
            except AttncodecError as error:
                raise OSError(f"{error} ({error.hint})") from None
            self.im, self.decoded = image.im, True
            self.info.update(image.info)
            if self._exclusive_fp and self.fp is not None:  # Pillow has opened the file, and nobody else reads it.
                self.fp.close()
                self.fp = None
        return Image.Image.load(self)


@functools.cache
def _codec(model: str | None) -> Codec:
    return load(model)


def _save(image: Image.Image, file: IO[bytes], name: str | bytes) -> None:
    given = image.encoderinfo
    options = {option: given[option] for option in OPTIONS if option in given}
    try:
        file.write(_codec(given.get("model")).compress(image, **options))
    except AttncodecError as error:
        raise ValueError(f"{error} ({error.hint})") from None


Image.register_open(FORMAT, AtcImageFile, lambda prefix: prefix.startswith(MAGIC))
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".atc")
Image.register_mime(FORMAT, "image/x-atc")
