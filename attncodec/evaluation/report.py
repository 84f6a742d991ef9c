"""This module writes images.csv and run.json: a model beside classic codecs whose files are at least as large."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attncodec.coding.sealed import SealedCodec
from attncodec.environment import versions
from attncodec.evaluation.classic import COMPARED
from attncodec.evaluation.records import Record, summarise
from attncodec.files import write_atomic


def points(records: Sequence[Record], codec: str) -> list[dict[str, Any]]:
    """Return the curve of a codec, with a point for each quality of the model."""
    qualities = sorted({record.quality for record in records})
    return [summarise([r for r in records if r.codec == codec and r.quality == quality]) for quality in qualities]


def as_json(sealed: SealedCodec, model: Path, records: Sequence[Record]) -> dict[str, Any]:
    """Return the model and its points. All numbers are finite."""
    return {
        "model": {
            "path": str(model),
            "decoder_id": sealed.header.decoder_id.hex(),
            "training_info": sealed.header.training_info,
        },
        "points": points(records, "attncodec"),
    }


def save(folder: Path, sealed: SealedCodec, model: Path, pictures: Path, records: Sequence[Record]) -> None:
    """Write images.csv and run.json.

    images.csv has a row for each picture and codec. run.json has the points and what they were measured with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = io.StringIO(newline="")
    rows = [record.row() for record in records]
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / "images.csv", file.getvalue().encode(errors="surrogateescape"))
    run = {
        **as_json(sealed, model, records),
        "classic": {name: points(records, name) for name in COMPARED},
        "pictures": pictures.resolve().name,
        "versions": versions("cpu"),
    }
    write_atomic(folder / "run.json", (json.dumps(run, indent=2, allow_nan=False) + "\n").encode())
