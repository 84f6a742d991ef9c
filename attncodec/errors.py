"""Errors that a user can cause. The command line prints them as `error: ...` and `hint: ...`, without a traceback."""

import errno

# Torch and its libraries say so when memory ends, in a RuntimeError.
NO_MEMORY = (
    *("not enough memory", "out of memory", "allocate memory"),
    *("could not create a primitive", "could not create a memory object"),
)


class AttncodecError(Exception):
    """An error with a message of one line and a `hint` about what to do, by default that of its class."""

    default_hint = "the documentation, and attncodec COMMAND --help, say what is accepted"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or self.default_hint


class ConfigError(AttncodecError):
    """The configuration or the command line asks for something that cannot be done."""


class ImageError(AttncodecError):
    """A picture cannot be read or written."""

    default_hint = "check that another program can open it; PNG, JPEG, WebP and TIFF can be read and written"


class ContainerError(AttncodecError):
    """A compressed file is damaged, of another version, or of another model."""

    default_hint = "copy the file again from its source, or compress the picture again"


class CheckpointError(AttncodecError):
    """A model file or a training checkpoint is missing, damaged, or not what it should be."""

    default_hint = "copy it again from its source, or make a model with attncodec train or seal"


class RankZeroFailedError(AttncodecError):
    """Rank 0 of several processes cannot continue and says why, so this process prints nothing."""


class OutputError(AttncodecError):
    """A file cannot be written."""

    default_hint = "check that its folder exists, that there is free space, and that you may write there"


class TrainingError(AttncodecError):
    """Training cannot continue."""


class NoMemoryError(AttncodecError):
    """The machine has not enough memory for what is asked."""

    default_hint = "close other programs, or use a smaller picture, fewer --threads, or a smaller train.batch"


class CheckError(AttncodecError):
    """The work was done, but a check of it did not hold: exit code 1."""

    default_hint = "do not rely on the file; please report this"


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory has ended, in whatever words a library says it."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    return isinstance(error, MemoryError) or said
