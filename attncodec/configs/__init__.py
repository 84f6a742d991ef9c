"""The shipped configurations, by name. This module is light, because --help lists them."""

from pathlib import Path

from attncodec.errors import ConfigError

FOLDER = Path(__file__).parent
SIMILAR = 0.6  # The least similarity of a name that is suggested: a path of another kind gets no suggestion.


def shipped_configs() -> dict[str, str]:
    """Return the first comment of each configuration in the package, by its name: `default`, `attention/dot`, ..."""
    paths = sorted(FOLDER.rglob("*.yaml"))
    names = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in paths}
    ordered = sorted(names, key=lambda name: ("/" in name, name))
    return {name: names[name].read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for name in ordered}


def run_folder_of(config: str | Path) -> Path:
    """Return the run folder of a configuration, if none is given: it has the last part of its name.

    Raises ConfigError for a pipe, whose name is another one each time.
    """
    if Path(config).exists() and not (Path(config).is_file() or Path(config).is_dir()):
        raise ConfigError(f"{config} is a pipe, so its name cannot be that of the run folder", "give --out FOLDER")
    return Path("runs") / Path(config).stem


def find_config(config: str | Path) -> Path:
    """Find the YAML file of a path, or of the name of a shipped configuration. Raises ConfigError if there is none."""
    path, name = Path(config), Path(config).as_posix().removesuffix(".yaml")
    named = FOLDER / f"{name}.yaml"
    if path.exists() and not path.is_dir():  # It may be a pipe.
        return path
    if named.is_relative_to(FOLDER) and ".." not in named.parts and named.is_file():
        return named
    from attncodec.registry import nearest  # It imports pydantic, which --help need not wait for.

    shipped = shipped_configs()
    if str(config) and path.is_dir():
        inside = path / "config.yaml"
        hint = f"give {inside}" if inside.is_file() else f"give a YAML file, or one of {', '.join(shipped)}"
        raise ConfigError(f"there is no configuration {config}: it is a folder", hint)
    similar = nearest(name, shipped, SIMILAR)
    asked = f"did you mean {similar}? Otherwise " if similar else ""
    raise ConfigError(f"there is no configuration {config}", f"{asked}give a YAML file, or one of {', '.join(shipped)}")
