"""The further options of a kind of attention stand in the configuration under its name."""

from attncodec.config import AttentionConfig, Section
from attncodec.registry import read_options


def refuse_options(config: AttentionConfig, kind: str) -> None:
    """Raise ConfigError if a kind that has no further options is given one."""
    read_options(Section, config.options.get(kind, {}), f"model.attention.options.{kind}")
