"""What scripts/train_shipped does: train a part, compare, measure in a temporary place, and replace all at the end."""

import argparse
import csv
import os
import shutil
import signal
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import torch
from lineage import RESULTS, origin_of, read_manifest
from measuring import measure
from model_card import RECIPE

from attncodec.coding.encoder import reconstruct
from attncodec.coding.model_file import read_header
from attncodec.coding.sealed import load_sealed
from attncodec.coding.shipped import shipped
from attncodec.config import Config
from attncodec.config_file import load_config
from attncodec.console import DONE, FAILURES, INTERRUPTED, ending_signals, say
from attncodec.device import resolve_device
from attncodec.errors import ConfigError
from attncodec.pictures import decode_rgb, find_pictures, read_rgb
from attncodec.training import validation
from attncodec.training.data import centre
from attncodec.training.picture_sources import find_sources
from attncodec.training.run_folder import RunFolder
from attncodec.training.train import Outcome, train

ROOT = Path(__file__).absolute().parent.parent
AGAIN = "hint: --run FOLDER trains the next generation in another folder, from the model that is shipped now"


class MinutesOver(KeyboardInterrupt):
    """The minutes of a part were over before its first step."""


class TimeLimit:
    """Asks the training to stop as SIGTERM does, once the minutes are over; outside of it, raises MinutesOver."""

    def __init__(self, minutes: float | None) -> None:
        self.over = False
        seconds = min(60 * (minutes or 0), threading.TIMEOUT_MAX)
        self.timer = threading.Timer(seconds, self._end) if minutes else None

    def __enter__(self) -> "TimeLimit":
        self.handler = signal.signal(signal.SIGTERM, self._stop)
        if self.timer:
            self.timer.daemon = True
            self.timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.timer:
            self.timer.cancel()
        signal.signal(signal.SIGTERM, self.handler)

    def _end(self) -> None:
        self.over = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        raise MinutesOver if self.over else KeyboardInterrupt


def ship(options: argparse.Namespace) -> int:
    """Train a part, and if it was the last one compare, measure and install the model; return the exit code."""
    os.chdir(ROOT)
    limit = TimeLimit(options.minutes)
    run = RunFolder(options.run or Path("runs") / f"shipped-{options.networks}")
    try:
        with limit:
            outcome = train_part(options, run)
    except MinutesOver:
        say("the minutes of this part were over before its first step; give the same command more of them")
        return DONE
    if outcome.progress.finished:
        return finish(options, run)
    step = outcome.progress.step
    if limit.over:
        say(f"this part is over at step {step}, saved in {run.path}: run the same command again for the next part")
        return DONE
    say(f"interrupted at step {step}, saved in {run.path}: run the same command again to continue")
    return INTERRUPTED


def train_part(options: argparse.Namespace, run: RunFolder) -> Outcome:
    """Check what the end needs, so that it does not fail after the training, and train."""
    for path in find_pictures(options.kodak):
        read_rgb(path)
    read_manifest(options.pictures)
    config = recipe(options.pictures, options.networks, options.overrides)
    origin_of(run, config)
    return train(config, run.path, resolve_device("auto"))


def recipe(pictures: Path, networks: str, overrides: list[str]) -> Config:
    """Return the recipe with the given networks."""
    config = load_config(RECIPE, [f"data.train={pictures}", *overrides])
    of_model = [override for override in overrides if override.startswith("model.")]
    return config.model_copy(update={"model": load_config(networks, of_model).model})


def finish(options: argparse.Namespace, run: RunFolder) -> int:
    """Compare the new model, and if it is better measure and install it; return the exit code."""
    model = shipped(options.networks)
    if model.exists() and read_header(model).file_sha256 == read_header(run.model).file_sha256:
        say(f"{run.path} is finished, and its model is the shipped one already: nothing was changed\n{AGAIN}")
        return DONE
    torch.set_flush_denormal(False)  # The training sets it; `attncodec eval`, whose figures these are, does not.
    comparison = compare(options, run)
    if comparison["now"]["loss"] >= comparison["before"]["loss"]:
        say(f"the model of {run.path} is no better than the shipped one: nothing was changed\n{AGAIN}")
        return FAILURES
    model, results = model.relative_to(ROOT), RESULTS[options.networks]
    card = model.with_suffix(".md")
    with TemporaryDirectory(prefix=".shipping-", dir=ROOT) as folder:
        measure(options, run, comparison, model, Path(folder))
        replace_all(Path(folder), [results, card, model])
    say(f"{model}, {card} and {results} are those of {run.path} now")
    return DONE


def compare(options: argparse.Namespace, run: RunFolder) -> dict[str, dict[str, Any]]:
    """Compare the new model with the shipped one of the same networks, or of the default ones if there is none."""
    networks = options.networks if shipped(options.networks).exists() else "default"
    found: dict[str, dict[str, Any]] = {}
    for name, of, model in (("before", networks, shipped(networks)), ("now", options.networks, run.model)):
        loss = held_out_loss(model, run, options.pictures)
        found[name] = {"networks": of, "decoder_id": read_header(model).decoder_id.hex(), "loss": loss}
        say(f"{name}: loss {loss:.4f} on the held-out pictures")
    return found


def held_out_loss(model: Path, run: RunFolder, pictures: Path) -> float:
    """Measure bpp + lambda 255^2 MSE of a sealed model, with its own rounding and tables, over three qualities."""
    with run.pictures.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        names = {row["name"] for row in csv.DictReader(file) if row["role"] == "held out"}
    sources = [source for source in find_sources(pictures) if source.name in names]
    if len(sources) < len(names):
        raise ConfigError(f"{pictures} lacks pictures that {run.path} held out", f"{run.pictures} lists them")
    held_out = [centre(decode_rgb(source.read(), source.name), validation.SIDE) for source in sources]
    codec, config = load_sealed(model), load_config(run.config)
    points = validation.validate(config, partial(reconstruct, codec), held_out, lambda: False)
    assert points is not None
    return validation.mean_of(points).loss


def replace_all(stage: Path, places: Sequence[Path]) -> None:
    """Move files and folders from `stage` to their places here; if one cannot be moved, undo the moves before it.

    Signals are ignored meanwhile. The model is the last one: if a power cut ends this, the same command does it again.
    """
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ending_signals())}
    aside, begun, moved = stage / "aside", list[Path](), set[Path]()
    try:
        for place in places:
            for folder in (place.parent, (aside / place).parent):
                folder.mkdir(parents=True, exist_ok=True)
            if place.is_file():
                shutil.copyfile(place, aside / place)  # so that the old file is there until the new one is
            begun.append(place)
            if place.is_dir():
                place.rename(aside / place)
            (stage / place).replace(place)
            moved.add(place)
    except OSError:
        for place in reversed(begun):
            if place in moved:
                place.rename(stage / place)
            if (aside / place).exists():
                (aside / place).replace(place)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
