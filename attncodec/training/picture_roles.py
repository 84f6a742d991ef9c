"""Each picture of a set has a role: a run trains on it, validates on it, or leaves it out for a reason.

Roles depend on the files alone, and not on time, nor on memory as long as there is enough for each picture. A run keeps
the roles that it began with, which its pictures.csv lists.
"""

import csv
import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attncodec.config import DataConfig
from attncodec.errors import CheckpointError, ConfigError, ImageError
from attncodec.training.picture_set import Content, Picture

TRAIN, HELD_OUT = "train", "held out"
UNREADABLE, HIDDEN, COPY, NEW = "unreadable", "hidden", "copy of a held out picture", "new since the run began"
USED = (TRAIN, HELD_OUT)
COLUMNS = ("name", "role", "sha256", "bytes")
NAMES_SHOWN = 3


@dataclass(frozen=True)
class PictureSet:
    """Lists the pictures of each role."""

    roles: dict[str, list[Picture]]

    @property
    def train(self) -> list[Picture]:
        """Return the pictures that a run trains on."""
        return self.roles[TRAIN]

    @property
    def held_out(self) -> list[Picture]:
        """Return the pictures that a run validates on."""
        return self.roles[HELD_OUT]

    @property
    def unreadable(self) -> list[Picture]:
        """Return the pictures that could not be read."""
        return self.roles.get(UNREADABLE, [])

    @property
    def listing(self) -> list[tuple[str, str, str, int]]:
        """Return name, role, SHA-256 and length of each picture by name: enough to repeat the run with the same."""
        return sorted((p.name, role, p.sha256, p.bytes) for role, pictures in self.roles.items() for p in pictures)

    def describe_left_out(self) -> str:
        """Say how many pictures are left out for each reason, and name the first of them."""
        reasons = defaultdict[str, list[str]](list)
        for role, pictures in self.roles.items():
            for picture in pictures if role not in USED else ():
                reasons[reason_of(picture) if picture.problem else role].append(picture.name)
        return ", ".join(f"{len(names)} {reason} ({some(names)})" for reason, names in reasons.items())


@dataclass(frozen=True)
class Listing:
    """Holds what pictures.csv says about each picture of a run: its roles, and its contents."""

    path: Path
    roles: dict[str, set[str]]  # A lone picture has two roles.
    contents: dict[str, Content]
    of_whole_files: bool  # Older builds had the SHA-256 of whole files, and no lengths.

    @classmethod
    def read(cls, path: Path) -> "Listing | None":
        """Read pictures.csv, or return None if there is none. Raises CheckpointError if it is damaged."""
        if not path.exists():
            return None
        try:
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = list(csv.DictReader(file))
            roles, contents = defaultdict[str, set[str]](set), dict[str, Content]()
            for row in rows:
                roles[row["name"]].add(row["role"])
                contents[row["name"]] = row["sha256"], int(row.get("bytes", 0))
        except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise CheckpointError(f"{path} is damaged: {error}", "--restart starts over") from None
        return cls(path, roles, contents, of_whole_files=bool(rows) and "bytes" not in rows[0])

    def used(self, *roles: str) -> set[str]:
        """Return the names of the pictures that have one of these roles."""
        return {name for name, found in self.roles.items() if found & {*roles}}

    def has(self, picture: Picture) -> bool:
        """Return whether a picture is as it is listed."""
        return self.contents.get(picture.name) == (picture.sha256, 0 if self.of_whole_files else picture.bytes)


def to_csv(pictures: PictureSet) -> bytes:
    """Return the contents of pictures.csv."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows([COLUMNS, *pictures.listing])
    return os.fsencode(file.getvalue())


def split_pictures(pictures: Sequence[Picture], config: DataConfig, listing: Listing | None = None) -> PictureSet:
    """Give each picture its role: that of the listing of a run, or if there is none as in a run that begins.

    Raises ConfigError if no picture can be read, or if one that the run uses has changed or is gone.
    """
    return _split(pictures, config) if listing is None else _split_as_listed(pictures, listing)


def _split(pictures: Sequence[Picture], config: DataConfig) -> PictureSet:
    """Hold out the configured share of the pictures, at least one, chosen by a hash of their names.

    Where at least two are as large as a crop, the choice and the share are of these alone, because a tiny picture says
    little of a codec. One of them is left to train on.

    Those that are held out are decoded, and replaced if they are damaged, and so is one to train on. Copies of what is
    held out are left out. A single picture is both trained and validated on.
    """
    sound = [picture for picture in pictures if not picture.problem and not picture.source.is_hidden]
    large = {picture.name for picture in sound if min(picture.size) >= config.crop}
    eligible = large if len(large) > 1 else {picture.name for picture in sound}
    count = max(1, min(round(config.held_out * len(eligible)), config.held_out_max, len(eligible) - 1))
    held_out, damaged, to_train = dict[Content, Picture](), dict[str, Picture](), False
    by_hash = sorted(sound, key=lambda picture: hashlib.sha256(os.fsencode(picture.name)).digest())
    for picture in sorted(by_hash, key=lambda picture: picture.name not in eligible):
        if picture.content in held_out:
            continue
        try:
            picture.read()
        except ImageError as error:
            damaged[picture.name] = replace(picture, problem=str(error))
            continue
        to_train = len(held_out) == count
        if to_train:
            break
        held_out[picture.content] = picture
    unreadable = [damaged.get(picture.name, picture) for picture in pictures if not picture.source.is_hidden]
    unreadable = [picture for picture in unreadable if picture.problem]
    if not held_out:
        first = f"; {unreadable[0].problem}" if unreadable else ""
        raise ConfigError(f"none of {len(pictures)} pictures under {config.train} can be read{first}")
    if not to_train and len(held_out) > 1:
        held_out.popitem()  # All the others are damaged or copies, so this one is trained on.
        to_train = True
    names = {picture.name for picture in held_out.values()}
    sound = [picture for picture in sound if picture.name not in damaged]
    roles = {
        TRAIN: [picture for picture in sound if picture.content not in held_out],
        HELD_OUT: [picture for picture in sound if picture.name in names],
        UNREADABLE: unreadable,
        HIDDEN: [picture for picture in pictures if picture.source.is_hidden],
        COPY: [picture for picture in sound if picture.content in held_out and picture.name not in names],
    }
    if not to_train:
        roles[TRAIN] = roles[HELD_OUT]
    return PictureSet(roles)


def _split_as_listed(pictures: Sequence[Picture], listing: Listing) -> PictureSet:
    """Give each picture the roles that it has in the listing. One that is not in it is new, and left out."""
    found = {picture.name: picture for picture in pictures}
    used = listing.used(*USED)
    gone = sorted(used - found.keys())
    changed = sorted(name for name in used & found.keys() if not listing.has(found[name]))
    new = {picture.content[0]: picture.name for picture in pictures if picture.name not in listing.roles}
    renamed = [name for name in gone if listing.contents[name][0] in new]
    told = [
        *[f"{name} is now {new[listing.contents[name][0]]}" for name in renamed[:NAMES_SHOWN]],
        *[f"{len(names)} {what} ({some(names)})" for names, what in ((gone, "gone"), (changed, "changed")) if names],
    ]
    if told:
        hint = "put them back, --restart starts over, --out DIR trains elsewhere"
        raise ConfigError(f"the pictures are not those listed in {listing.path}: {', '.join(told)}", hint)
    roles: dict[str, list[Picture]] = {TRAIN: [], HELD_OUT: []}
    for picture in pictures:
        for role in sorted(listing.roles.get(picture.name, {NEW})):
            roles.setdefault(role, []).append(picture)
    return PictureSet(roles)


def reason_of(picture: Picture) -> str:
    """Return what is wrong with a picture in a few words, which are the same for all pictures of this kind."""
    words = picture.problem.removeprefix(picture.name).lstrip(": ").split(":")[0]
    return words.removeprefix("is ")


def some(names: Iterable[str]) -> str:
    """Return the first of the names."""
    names = list(names)
    return ", ".join([*names[:NAMES_SHOWN], *(["..."] if len(names) > NAMES_SHOWN else [])])


def notes_on(pictures: PictureSet, crop: int) -> list[str]:
    """Say what is unusual about a set, and often a mistake."""
    train, notes = pictures.train, list[str]()
    if train == pictures.held_out:
        notes.append("there is only one picture, and validation looks at the one that is trained on")
    small = sum(min(picture.size) < crop for picture in train)
    if 2 * small > len(train):
        notes.append(
            f"{small} of {len(train)} pictures are smaller than data.crop={crop}, and their edges are repeated"
        )
    elif all(min(picture.size) < crop for picture in pictures.held_out):
        notes.append(f"what is held out is smaller than data.crop={crop}, so validations say little")
    areas = Counter({picture.name: picture.size[0] * picture.size[1] for picture in train})
    name, largest = areas.most_common(1)[0]
    if len(train) > 2 and 2 * largest > areas.total():
        notes.append(f"{name} has more pixels than all others together, and most crops are of it")
    folders = {part for p in [*train, *pictures.held_out] for part in Path(p.name).parts[:-1]}
    apart = sorted(folders & {"val", "valid", "validation", "test", "testing", "eval", "kodak", "Kodak"})
    if apart:
        notes.append(f"pictures in {', '.join(apart)} are trained on, too; data.train may name a folder without them")
    return notes
