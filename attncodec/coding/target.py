"""What is asked of a file: a quality, a size or a PSNR."""

import math
import reprlib
from dataclasses import dataclass
from numbers import Real

from attncodec.errors import ConfigError

EXAMPLES = {"quality": "4", "target in bytes": "20000", "target in bpp": "0.5", "target in dB": "34"}


@dataclass(frozen=True)
class Target:
    """A request for the quality, size or PSNR of a file.

    At most one field is set. If none is, the quality is 4, or the highest of the model if that is lower.
    """

    quality: float | None = None
    bytes: int | None = None
    bpp: float | None = None
    psnr_db: float | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError if several fields are set, or if one is not a positive number."""
        values = (self.quality, self.bytes, self.bpp, self.psnr_db)
        given = {name: value for name, value in zip(EXAMPLES, values, strict=True) if value is not None}
        if len(given) > 1:
            raise ConfigError(f"a {' and a '.join(given)} cannot be combined", "give only one of them")
        for name, value in given.items():
            if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < math.inf:
                text = f"a {name} must be a finite number above 0, not {reprlib.repr(value)}"
                raise ConfigError(text, f"such as {EXAMPLES[name]}")
