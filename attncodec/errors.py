"""Errors that a user can cause. The command line prints them as `error: ...` and `hint: ...`, without a traceback."""


class AttncodecError(Exception):
    """What went wrong, in one line, and what to do about it (`hint`, may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(AttncodecError):
    """The configuration, or what was asked on the command line, cannot be carried out."""


class ImageError(AttncodecError):
    """A picture cannot be read or written."""


class ContainerError(AttncodecError):
    """A compressed file is damaged, of another version, or of another model."""


class CheckpointError(AttncodecError):
    """A model file or a training checkpoint is missing, damaged, or not what it should be."""


class TrainingError(AttncodecError):
    """Training cannot go on."""
