"""attncodec: train, measure and use learned image codecs with attention.

codec = attncodec.load()             # this loads the shipped model
data = codec.compress("img.png")     # data has the bytes of an .atc file
image = codec.decompress(data)       # image is a Pillow image
"""

from typing import TYPE_CHECKING, Any

from attncodec import errors
from attncodec.version import __version__

if TYPE_CHECKING:
    from attncodec.api import Codec, Target, compress_file, decompress_file, describe_file, load, train

__all__ = [
    "Codec",
    "Target",
    "__version__",
    "compress_file",
    "decompress_file",
    "describe_file",
    "errors",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a name of `attncodec.api` when it is first used, because torch takes seconds to import."""
    if name not in __all__:
        raise AttributeError(f"module 'attncodec' has no attribute {name!r}")
    from attncodec import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the names that are not imported yet, too, because shells complete names from here."""
    return sorted({*globals(), *__all__})
