"""Pictures are found in folders by their suffixes."""

import logging
from pathlib import Path

from attncodec.errors import ConfigError
from attncodec.finding import find_files
from attncodec.pictures.opening import open_image
from attncodec.pictures.reading import DAMAGE, formats

logger = logging.getLogger(__name__)

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
    found = find_files(folder, SUFFIXES)
    if not found.files and not enough:
        others = found.left_out.total()
        raise ConfigError(
            f"no pictures under {folder}: {others} other files found", "picture names must end in " + " ".join(SUFFIXES)
        )
    for error in found.unreadable:
        logger.warning("note: %s cannot be read: %s", error.filename, error.strerror)
    return found.files


def is_picture(path: Path) -> bool:
    """Say whether a file begins as a picture does. Only its head is read."""
    try:
        with path.open("rb") as file, open_image(file, formats()) as image:
            return min(image.size) > 0
    except DAMAGE:
        return False
