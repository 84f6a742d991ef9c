"""Errors that a user can cause. The command line prints them as `error: ...` and `hint: ...`, without a traceback."""


class AttncodecError(Exception):
    """What went wrong, in one line, and what to do about it: `hint`, or what holds for all errors of the kind."""

    default_hint = "attncodec COMMAND --help says what can be given"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or self.default_hint


class ConfigError(AttncodecError):
    """The configuration, or what was asked on the command line, cannot be carried out."""


class ImageError(AttncodecError):
    """A picture cannot be read or written."""

    default_hint = "see whether another program opens it; PNG, JPEG, WebP and TIFF are read and written"


class ContainerError(AttncodecError):
    """A compressed file is damaged, of another version, or of another model."""

    default_hint = "copy the file again from where it came, or compress the picture again"


class CheckpointError(AttncodecError):
    """A model file or a training checkpoint is missing, damaged, or not what it should be."""

    default_hint = "copy it again from where it came; attncodec train and seal make models"


class RankZeroFailedError(AttncodecError):
    """Rank 0 of several processes cannot go on, and says why: this one has nothing to add."""


class TrainingError(AttncodecError):
    """Training cannot go on."""


class CheckError(AttncodecError):
    """The work was done, but a check of it did not hold: exit code 1."""

    default_hint = "do not rely on the file; please report this"
