"""What a run needs before its first step: pictures, and what learns."""

import csv
import hashlib
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from attncodec.config import Config
from attncodec.errors import ConfigError, ImageError, TrainingError
from attncodec.images import RGB
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.training import validation
from attncodec.training.checkpoint import Checkpoint
from attncodec.training.data import Crops, centre
from attncodec.training.init_from import load_initial
from attncodec.training.train_state import TrainState
from attncodec.training.pictures import PictureSet, find_sources, read_pictures, split_pictures
from attncodec.training.run import RunFolder

# Of the crops that tables are measured on: a minute's work for configs/default.yaml on two cores.
MEASURED_PIXELS, MEASURED_CROPS_MIN, MEASURED_CROPS_MAX = 1 << 21, 8, 48


def load_pictures(config: Config, say: Callable[[str], None], distributed: Distributed = SINGLE_PROCESS) -> PictureSet:
    """Read the folder, and say what was found and what could not be read."""
    sources = find_sources(Path(config.data.train))
    reading = read_pictures(sources, config.data, distributed)
    shown = distributed.is_rank0 and sys.stderr.isatty()
    bar = tqdm(reading, total=len(sources), desc="reading pictures", disable=not shown, leave=False)
    pictures = split_pictures(list(bar), config.data)
    for picture in pictures.unreadable:
        say(f"left out: {picture.problem}")
    pixels = sum(math.prod(picture.size) for picture in pictures.train)
    kept = sum(picture.pieces is not None for picture in pictures.train)
    where = "" if kept == len(pictures.train) else f", {kept} of them in memory, the others decoded for every crop"
    say(
        f"{len(pictures.train)} pictures to train on ({pixels / 1e6:.1f} megapixels{where}), "
        f"{len(pictures.held_out)} held out, {len(pictures.unreadable)} unreadable"
    )
    return pictures


def load_held_out(pictures: PictureSet, say: Callable[[str], None]) -> list[RGB]:
    """The middles of the pictures to validate on. Raises ConfigError where none can be read."""
    held_out = []
    for picture in pictures.held_out:
        try:
            held_out.append(centre(picture.read(), validation.SIDE))
        except ImageError as error:
            say(f"left out of validation: {error}")
    if not held_out:
        raise ConfigError("none of the held-out pictures can be read", "data.cache=auto looks at every picture first")
    return held_out


def crops_to_measure(crops: Crops) -> Tensor:
    """Crops of the training pictures, by which tables are measured at sealing, (N, 3, side, side) in [0, 1]."""
    side = crops.config.data.crop
    count = min(max(MEASURED_PIXELS // side**2, MEASURED_CROPS_MIN), MEASURED_CROPS_MAX)
    return crops.first(count).cpu().float() / 255


def pictures_to_measure(config: Config, checkpoint: Path, say: Callable[[str], None]) -> Tensor | None:
    """As `crops_to_measure`, of the pictures that the run of a checkpoint has trained on: those of `data.train` that
    its list of pictures names, unchanged. None where there are none any more, which is said."""
    listing = RunFolder(checkpoint.absolute().parent.parent).pictures
    config = config.model_copy(update={"data": config.data.model_copy(update={"cache": "none"})})
    try:
        with listing.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            trained = {(row["name"], row["sha256"]) for row in csv.DictReader(file) if row["role"] == "train"}
        found = list(read_pictures(find_sources(Path(config.data.train)), config.data))
        pictures = [picture for picture in found if (picture.name, picture.sha256) in trained and not picture.problem]
        say(f"tables are measured on {len(pictures)} of the {len(trained)} pictures that were trained on")
        if not pictures:
            raise ConfigError(f"none of those in {config.data.train} are as {listing} lists them")
        crops = Crops(pictures, config, torch.device("cpu"))
        try:
            return crops_to_measure(crops)
        finally:
            crops.close()
    except (ConfigError, ImageError, TrainingError, OSError, KeyError, csv.Error) as error:
        say(f"note: {error}; so the tables stay analytic, and files become larger")
        return None


def check_same(pictures: PictureSet, held_out: list[RGB], distributed: Distributed) -> None:
    """Raise ConfigError where a process of the team has other pictures than another."""
    seen = hashlib.sha256(repr((pictures.listing, len(held_out))).encode()).hexdigest()
    if len(set(distributed.gather([seen]))) > 1:
        raise ConfigError(
            "the processes do not find the same pictures", "data.train must hold the same files on every machine"
        )


def begin(
    config: Config,
    device: torch.device,
    pictures: PictureSet,
    say: Callable[[str], None],
    checkpoint: Checkpoint | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> tuple[TrainState, Crops]:
    """What learns, as it stands before the next step, and what from."""
    init = distributed.run_on_rank0(lambda: load_initial(config)) if config.train.init and not checkpoint else None
    state, crops = TrainState.build(config, device, distributed, say), Crops(pictures.train, config, device, distributed)
    if checkpoint:
        state.restore(checkpoint)
    elif init:
        state.begin_from(init.codec)
        say(init.inherited)
        say(init.new)
    else:
        state.initialise(crops)
    return state, crops
