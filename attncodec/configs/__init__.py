"""The shipped configurations, by name. This module is light, because --help lists them."""

from pathlib import Path

from attncodec.errors import ConfigError

FOLDER = Path(__file__).parent


def shipped_configs() -> dict[str, str]:
    """Return the first comment of each configuration in the package, by its name: `default`, `attention/dot`, ..."""
    paths = sorted(FOLDER.rglob("*.yaml"))
    names = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in paths}
    ordered = sorted(names, key=lambda name: ("/" in name, name))
    return {name: names[name].read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for name in ordered}


def run_folder_of(config: str | Path) -> Path:
    """Return the run folder of a configuration, if none is given: it has the last part of its name."""
    return Path("runs") / Path(config).stem


def find_config(config: str | Path) -> Path:
    """Find the YAML file of a path, or of the name of a shipped configuration. Raises ConfigError if there is none."""
    named = FOLDER / f"{Path(config).as_posix().removesuffix('.yaml')}.yaml"
    if Path(config).is_file():
        return Path(config)
    if named.is_relative_to(FOLDER) and ".." not in named.parts and named.is_file():
        return named
    raise ConfigError(
        f"there is no configuration {config}", f"give a YAML file, or one of {', '.join(shipped_configs())}"
    )
