"""Measure a model that scripts/train_shipped has trained, and write its results and its card into a temporary place."""

import argparse
import csv
import json
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from lineage import RESULTS, Generation, count_licences, credited, origin_of, read_manifest, write_generations
from make_golden import graphic
from model_card import hardware, write_card
from PIL import Image, ImageDraw

from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.config_file import dump_yaml, load_config
from attncodec.distributed import SINGLE_PROCESS
from attncodec.errors import ImageError
from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.job import Job, Model, all_qualities
from attncodec.evaluation.measure import Measured
from attncodec.evaluation.measure import measure as measure_all
from attncodec.evaluation.records import Record, evaluate_picture
from attncodec.evaluation.results import make_results, save
from attncodec.evaluation.store import Store, user_cache
from attncodec.files import write_atomic
from attncodec.pictures import RGB, encode_rgb, find_pictures
from attncodec.training.run_folder import RunFolder

LIMITS_AT = (2, 4, 6)  # qualities


def measure(options: argparse.Namespace, run: RunFolder, comparison: dict[str, Any], model: Path, stage: Path) -> None:
    """Write the model, its results and its card into the folder `stage`, at their paths in the repository."""
    results = RESULTS[options.networks]
    lineage = origin_of(run, load_config(run.config))
    for folder in (stage / model.parent, stage / results):
        folder.mkdir(parents=True)
    write_atomic(stage / model, run.model.read_bytes())
    copy_run(options, run, stage / results)
    origin = {"decoder_id": lineage[-1].decoder_id} if lineage else {}
    write_json(stage / results / "comparison.json", {**comparison, "grown_from": origin})
    codec = load_sealed(stage / model)
    evaluate(codec, options.kodak, stage / results / "kodak", model)
    write_json(stage / results / "limits.json", [record.row() for record in limits(codec, stage)])
    generations = [*lineage, generation_of(stage / results, bool(lineage))]
    write_generations(stage / results / "generations.json", generations)
    write_card(stage / model, results, stage)


def copy_run(options: argparse.Namespace, run: RunFolder, results: Path) -> None:
    """Copy what describes the run, without paths, because other machines have others."""
    config = load_config(run.config)
    data = config.data.model_copy(update={"train": Path(config.data.train).name})
    training = config.train.model_copy(update={"init": Path(config.train.init).name})
    config = config.model_copy(update={"data": data, "train": training})
    write_atomic(results / "config.yaml", dump_yaml(config).encode())
    listing = credited(run.pictures.read_bytes(), read_manifest(options.pictures))
    write_atomic(results / "pictures.csv", listing)
    for path in (run.metrics, run.rd_plot, run.path / "versions.json"):
        if path.exists():  # there is no plot without matplotlib
            shutil.copyfile(path, results / path.name)


def evaluate(codec: SealedCodec, pictures: Path, folder: Path, model: Path) -> None:
    """Do what `attncodec eval` does, but raise ImageError if a picture cannot be measured, and name no other folder."""

    def refuse(path: Path, error: Exception) -> None:
        raise ImageError(f"{path}: {error}") from None

    against = [name for name, classic in CLASSIC.items() if classic.available]
    models = [Model(model.stem, model, codec, all_qualities(codec))]
    job, found = Job(pictures, find_pictures(pictures), models, against), Measured()
    measure_all(job, found, Store(None), user_cache(), SINGLE_PROCESS, refuse)
    results = make_results(job, found, ["scripts/train_shipped"], partial=False)
    results["run"]["arguments"]["folder"] = pictures.resolve().name
    save(folder, results)


def text_page() -> RGB:
    """Draw a page of black text on white."""
    image = Image.new("RGB", (384, 256), "white")
    draw, rng = ImageDraw.Draw(image), np.random.default_rng(0)
    for y in range(10, 240, 14):
        words = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(9)]
        draw.text((12, y), " ".join(words), fill="black")
    return np.asarray(image)


def limits(codec: SealedCodec, folder: Path) -> list[Record]:
    """Measure the model on pictures that are no photographs, beside WebP and JPEG at no fewer bytes."""
    found, path = list[Record](), folder / "picture.png"
    for name, rgb in (("flat graphic", graphic()), ("page of text", text_page())):
        write_atomic(path, encode_rgb(rgb, ".png"))
        for quality in LIMITS_AT:
            found += evaluate_picture(codec, path, name, quality)
    return found


def generation_of(results: Path, grown: bool) -> Generation:
    """Describe the new model by the results of its run."""
    machine, compared = (json.loads((results / name).read_text()) for name in ("versions.json", "comparison.json"))
    with (results / "metrics.csv").open(newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    return Generation(
        how="grown from the one before, and trained" if grown else "trained from random weights",
        decoder_id=compared["now"]["decoder_id"],
        date=datetime.now(timezone.utc).date().isoformat(),
        minutes=round(float(last["elapsed_s"]) / 60, 1),
        hardware=hardware(machine),
        steps=int(last["step"]),
        loss=round(compared["now"]["loss"], 4),
        commit=machine["git_commit"],
        licences=count_licences(results),
    )


def write_json(path: Path, found: object) -> None:
    """Write a JSON file."""
    write_atomic(path, (json.dumps(found, indent=2) + "\n").encode())
