"""The error of a part that does not keep the contract of its registry, which docs/extending.md describes.

It stands with the metrics because no other registry has parts so low in the order of imports.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from attncodec.errors import AttncodecError, ConfigError


class BrokenContractError(Exception):
    """A part does not do what it promises. The message goes on from the name of the part, which `contract` adds."""


@contextmanager
def contract(part: str) -> Iterator[None]:
    """Raise ConfigError with one line that names the part, if its code raises anything else or a check of it fails."""
    try:
        yield
    except (AttncodecError, MemoryError):
        raise
    except Exception as error:  # Whoever wrote the part may raise anything.
        what = f"{error}" if isinstance(error, BrokenContractError) else f"raises {type(error).__name__}: {error}"
        raise ConfigError(
            " ".join(f"{part} {what}".split()), "docs/extending.md says what a part of this kind does"
        ) from error
