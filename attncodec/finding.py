"""Files are found in folders here, and what is passed over is counted by its kind."""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

# Systems keep these beside the files of people. They are left alone without a word, and so is what is hidden: sidecars
# of macOS (._x.jpg), .DS_Store, .thumbnails.
OF_SYSTEMS = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "__macosx", "$recycle.bin"),
    *("lost+found", "system volume information"),
}
KINDS_SHOWN = 6


@dataclass
class Found:
    """The files of the wanted kinds, how many there are of each other kind, and the folders that cannot be read."""

    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: list[OSError] = field(default_factory=list)


def find_files(folder: Path, suffixes: Collection[str]) -> Found:
    """Find the files under `folder` with one of the suffixes, in upper or lower case, in order of relative names.

    Links to folders are followed after all other folders, and no folder is read twice, so loops end.
    """
    found, seen = Found(), set[tuple[int, int]]()
    folders, links = [folder], list[Path]()
    while folders or links:
        place = folders.pop() if folders else links.pop(0)
        try:
            status, names = os.stat(place), sorted(os.listdir(place))
        except OSError as error:
            found.unreadable.append(error)
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for path in (place / name for name in names if not _is_of_systems(name)):
            if os.path.isdir(path):
                (links if path.is_symlink() else folders).append(path)
            elif path.suffix.lower() in suffixes and os.path.isfile(path):
                found.files.append(path)
            else:
                found.left_out[_kind_of(path)] += 1
    found.files.sort(key=lambda path: path.relative_to(folder).as_posix())
    return found


def _is_of_systems(name: str) -> bool:
    return name.startswith(".") or name.lower() in OF_SYSTEMS


def _kind_of(path: Path) -> str:
    if os.path.isfile(path):
        return path.suffix.lower() or "without a suffix"
    return "broken link" if path.is_symlink() else "special file"


def describe_left_out(left_out: Counter[str]) -> str:
    """Return a line such as "3 files left out: 2 .heic, 1 .txt"."""
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count} {kind}" for kind, count in kinds[:KINDS_SHOWN]]
    others = sum(count for _, count in kinds[KINDS_SHOWN:])
    count = left_out.total()
    return f"{count} file{'s' * (count > 1)} left out: {', '.join([*parts, *[f'{others} others'] * (others > 0)])}"
