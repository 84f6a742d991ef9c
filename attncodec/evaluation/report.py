"""What an evaluation leaves behind: a table to read, images.csv and run.json to work on."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from attncodec.environment import versions
from attncodec.evaluation.records import Record, summarise
from attncodec.files import write_whole
from attncodec.model.sealed import SealedCodec

COLUMNS = (
    ("bpp", "bpp", ".4f"),
    ("bpp_est", "bpp_est", ".4f"),
    ("psnr_db", "PSNR dB", ".2f"),
    ("ms_ssim", "MS-SSIM", ".4f"),
    ("encode_s", "encode s", ".3f"),
    ("decode_s", "decode s", ".3f"),
)


def by_codec(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each codec, the model's first."""
    return {codec: [r for r in records if r.codec == codec] for codec in dict.fromkeys(r.codec for r in records)}


def table(records: Sequence[Record]) -> str:
    """A row for each picture through the model, then the means of every codec."""
    groups = by_codec(records)
    rows = [(record.name, asdict(record)) for record in next(iter(groups.values()))]
    rows += [(f"mean {codec}", summarise(group)) for codec, group in groups.items()]
    width = max(len(label) for label, _ in rows)
    lines = [" " * width + "".join(f"{title:>10}" for _, title, _ in COLUMNS)]
    for label, values in rows:
        cells = ("-" if values[key] is None else format(values[key], form) for key, _, form in COLUMNS)
        lines.append(f"{label:<{width}}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def as_json(codec: SealedCodec, model: Path, records: Sequence[Record]) -> dict[str, Any]:
    """The model and its points; no value is infinite or not a number."""
    return {
        "model": {"path": str(model), "digest": codec.header.digest.hex(), **codec.header.about},
        "points": [summarise(by_codec(records)["attncodec"])],
    }


def save(folder: Path, codec: SealedCodec, model: Path, pictures: Path, records: Sequence[Record]) -> None:
    """images.csv has a row for each picture and codec, run.json the points and what they were measured with."""
    folder.mkdir(parents=True, exist_ok=True)
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow([field.name for field in fields(Record)])
    writer.writerows(asdict(record).values() for record in records)
    write_whole(folder / "images.csv", file.getvalue().encode())
    run = {
        **as_json(codec, model, records),
        "classic": {name: summarise(group) for name, group in by_codec(records).items() if name != "attncodec"},
        "pictures": pictures.resolve().name,
        "versions": versions("cpu"),
    }
    write_whole(folder / "run.json", (json.dumps(run, indent=2, allow_nan=False) + "\n").encode())
