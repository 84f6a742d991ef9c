"""Pictures are found in folders by their suffixes."""

from pathlib import Path

from attncodec.errors import ConfigError
from attncodec.files import find_files

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)


def find_pictures(folder: Path, enough: bool = False) -> list[Path]:
    """Find all picture files under `folder`, in order of their relative names.

    Raises ConfigError if there is no folder, or if it has no pictures and the caller does not have `enough` without it.
    """
    if not folder.exists():
        raise ConfigError(f"there is no folder {folder}", "check the name, or the folder you are in")
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder", "give the folder that contains the pictures")
    paths = find_files(folder, SUFFIXES)
    if not paths and not enough:
        found = sum(path.is_file() for path in folder.rglob("*"))
        raise ConfigError(
            f"no pictures under {folder}: {found} other files found", "picture names must end in " + " ".join(SUFFIXES)
        )
    return paths
