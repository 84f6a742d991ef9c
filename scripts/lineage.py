"""What a shipped model descends from: its generations, their pictures, and the licence that follows from these.

scripts/train_shipped keeps the generations in generations.json, beside the other results of a shipped model.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from attncodec.coding.model_file import read_header
from attncodec.coding.shipped import shipped
from attncodec.config import Config
from attncodec.errors import ConfigError
from attncodec.files import write_atomic
from attncodec.training.init_from import path_of
from attncodec.training.run_folder import RunFolder

RESULTS = {"default": Path("results/shipped"), "large": Path("results/shipped_large")}
UNKNOWN = "unknown"
CREDITS = ("source", "author", "licence")  # These columns of MANIFEST.csv are kept.

REFUSALS = {
    UNKNOWN: "The licences of some pictures that the weights descend from are unknown, and so is that of the weights.",
    "CC BY-NC": "The weights have no free licence, because that of some pictures forbids commercial use.",
    "CC BY-ND": "The weights have no licence, because that of some pictures forbids adaptations.",
}
# Otherwise weights take the first of these that is among the licences of their pictures, so the strictest comes first.
# Licences of a kind begin with its key, above and here. Pictures under CC BY-SA 4.0 may become part of a work under
# version 3 of the GPL, but not under a later one. The GPL in version 2 alone allows neither, and is unknown to us.
FOLLOWS = {
    "GPL-2+": "GPL-3.0-only",
    "GPL-2.0-or-later": "GPL-3.0-only",
    "GPL-3": "GPL-3.0-only",
    "CC BY-SA": "CC BY-SA 4.0",
    "CC BY": "CC BY 4.0",
    "CC0": "MIT",
    "Unsplash": "MIT",
    "public domain": "MIT",
}


@dataclass(frozen=True)
class Generation:
    """Records how a model was made from the one before it in the list; None stands for what is not known."""

    how: str
    decoder_id: str | None = None
    date: str | None = None
    minutes: float | None = None
    hardware: str | None = None
    steps: int | None = None
    loss: float | None = None  # This is the sealed model's, on the held-out pictures.
    commit: str | None = None  # This is the commit of the code.
    licences: dict[str, int] | None = None  # These count the pictures that were trained on.


def read_generations(path: Path) -> list[Generation]:
    """Read a list of generations, the oldest first; without the file nothing is known."""
    return [Generation(**fields) for fields in json.loads(path.read_text())] if path.exists() else []


def write_generations(path: Path, generations: Iterable[Generation]) -> None:
    """Write a list of generations."""
    text = json.dumps([asdict(generation) for generation in generations], indent=2, ensure_ascii=False)
    write_atomic(path, f"{text}\n".encode())


def lineage_of(config: Config) -> list[Generation]:
    """Return the generations of the weights that `train.init` names now; these weights are the last of them."""
    if not config.train.init:
        return []
    path = path_of(config)
    for networks, results in RESULTS.items():
        if path == shipped(networks):
            known = read_generations(results / "generations.json")
            if known and known[-1].decoder_id == read_header(path).decoder_id.hex():
                return known
    return [Generation(f"not recorded: the weights of {path.name}")]


def origin_of(run: RunFolder, config: Config) -> list[Generation]:
    """Return the generations before a run as they were when it began, and write them down if it has not begun.

    The shipped model may be another one when the run ends. The file lies beside the run folder, which has to be empty
    until the run begins.
    """
    path = run.path.with_name(f"{run.path.name}.origin.json")
    if run.began_with() is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_generations(path, lineage_of(config))
    return read_generations(path) if path.exists() else [Generation("not recorded: the run began without a record")]


def read_manifest(pictures: Path) -> dict[str, dict[str, str]]:
    """Read the rows of MANIFEST.csv beside the pictures by file name. Raises ConfigError if it is damaged."""
    path = pictures / "MANIFEST.csv"
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["file"]: row for row in csv.DictReader(file)}
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        reason = "it has no column `file`" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{path} cannot be read: {reason}", "it needs the columns file and licence") from None


def credited(listing: bytes, manifest: dict[str, dict[str, str]]) -> bytes:
    """Add to the pictures.csv of a run what the manifest says of each picture; without a licence, it is unknown."""
    rows = list(csv.DictReader(io.StringIO(listing.decode(errors="surrogateescape"), newline="")))
    columns = [name for name in CREDITS if name == "licence" or any(name in row for row in manifest.values())]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["name", "role", "sha256", *columns], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        known = manifest.get(row["name"], {})
        credit = {name: (known.get(name) or "").strip() for name in columns}
        writer.writerow({**row, **credit, "licence": credit["licence"] or UNKNOWN})
    return file.getvalue().encode(errors="surrogateescape")


def pictures_of(results: Path, role: str = "train") -> list[dict[str, str]]:
    """Return the rows of pictures.csv with this role."""
    path = results / "pictures.csv"
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [row for row in csv.DictReader(file) if row["role"] == role]


def count_licences(results: Path) -> dict[str, int]:
    """Count the pictures that were trained on by licence, the most frequent one first."""
    return dict(Counter(row["licence"] for row in pictures_of(results)).most_common())


def strictest(licences: Iterable[str]) -> str:
    """Return the kind of the strictest licence, a key of REFUSALS or FOLLOWS."""
    order = [*REFUSALS, *FOLLOWS]
    kinds = [next((kind for kind in order if licence.startswith(kind)), UNKNOWN) for licence in licences]
    return min(kinds, key=order.index, default=UNKNOWN)


def licences_of(generations: Iterable[Generation]) -> list[str]:
    """List the licences of all pictures that the last of these generations descends from."""
    return [licence for generation in generations for licence in generation.licences or [UNKNOWN]]
