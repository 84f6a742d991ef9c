"""This module prepares a run for its first step: it reads pictures, and builds the training state and the crops."""

import hashlib
import logging
import math
from pathlib import Path

import torch
from torch import nn

from attncodec.config import Config
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.errors import ConfigError, ImageError
from attncodec.finding import describe_left_out
from attncodec.networks.attention import ATTENTION, build_attention
from attncodec.networks.hyperprior import check_model
from attncodec.networks.initialisation import INITIALISATIONS
from attncodec.pictures import RGB
from attncodec.registry import look_up
from attncodec.training import validation
from attncodec.training.checkpoint import Checkpoint
from attncodec.training.data import Crops, centre
from attncodec.training.init_from import load_initial
from attncodec.training.optimisers import build_optimisers
from attncodec.training.picture_roles import Listing, PictureSet, notes_on, split_pictures
from attncodec.training.picture_set import read_headers
from attncodec.training.picture_sources import UNPACK, packed_kinds, scan
from attncodec.training.progress import told
from attncodec.training.train_state import TrainState

logger = logging.getLogger(__name__)


def check_parts(config: Config) -> None:
    """Raise ConfigError, before pictures are read, if no folder of them is named, or if a part cannot be built."""
    if not config.data.train:
        raise ConfigError("data.train is not set", "name a folder of pictures: data.train=photos/")
    attention = config.model.attention
    look_up(ATTENTION, attention.kind, "model.attention.kind")
    with torch.device("meta"):  # Options are kept for kinds that are not in use, too, and may be misspelt there.
        for kind in attention.options:
            build_attention(attention, 2 * attention.heads, kind)
    check_model(config.model)
    build_optimisers(nn.Conv2d(1, 1, 1), config.train, bf16=False)
    look_up(INITIALISATIONS, config.train.initialisation, "train.initialisation")


def load_pictures(
    config: Config, distributed: Distributed = SINGLE_PROCESS, listing: Listing | None = None
) -> PictureSet:
    """Read the headers of the pictures in `data.train`, and log what was found and what is left out.

    With the listing of a run, pictures have the roles that they had when it began.
    """
    if distributed.is_rank0:
        logger.info("looking for pictures in %s", config.data.train)
    found = scan(Path(config.data.train))
    headers = read_headers(found.sources, hash_files=listing is not None and listing.of_whole_files)
    shown = distributed.is_rank0
    pictures = split_pictures(list(told(headers, len(found.sources), "pictures found", shown)), config.data, listing)
    for error in found.unreadable:
        logger.warning("note: %s cannot be read: %s", error.filename, error.strerror)
    if found.left_out:
        logger.info("%s", describe_left_out(found.left_out))
    if packed := packed_kinds(found.left_out):
        logger.warning("note: packed files are not read (%s): %s", ", ".join(packed), UNPACK)
    if left_out := pictures.describe_left_out():
        logger.warning("left out: %s", left_out)
    for note in notes_on(pictures, config.data.crop):
        logger.info("note: %s", note)
    pixels = sum(math.prod(picture.size) for picture in pictures.train)
    counts = (len(pictures.train), pixels / 1e6, len(pictures.held_out))
    logger.info("%d pictures to train on (%.1f megapixels), %d held out", *counts)
    return pictures


def load_held_out(pictures: PictureSet) -> list[RGB]:
    """Read the middles of the pictures to validate on. Raises ConfigError if none can be read."""
    held_out = []
    for picture in pictures.held_out:
        try:
            held_out.append(centre(picture.read(), validation.SIDE))
        except ImageError as error:
            logger.warning("skipped in validation: %s", error)
    if not held_out:
        raise ConfigError("none of the held-out pictures can be read any more", "check that the folder is still there")
    return held_out


def check_same(pictures: PictureSet, held_out: list[RGB], distributed: Distributed) -> None:
    """Raise ConfigError if the processes do not have the same pictures."""
    seen = hashlib.sha256(repr((pictures.listing, len(held_out))).encode()).hexdigest()
    if len(set(distributed.gather([seen]))) > 1:
        raise ConfigError(
            "the processes do not find the same pictures", "data.train must hold the same files on every machine"
        )


def set_up(
    config: Config,
    device: torch.device,
    pictures: PictureSet,
    checkpoint: Checkpoint | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> tuple[TrainState, Crops]:
    """Build the training state, as it is before the next step, and the crops that it learns from."""
    starts_from_weights = config.train.init and not checkpoint
    initial = distributed.run_on_rank0(lambda: load_initial(config)) if starts_from_weights else None
    state = TrainState.build(config, device, distributed)
    crops = Crops(pictures.train, config, device, distributed)
    if checkpoint:
        state.restore(checkpoint)
    elif initial:
        state.begin_from(initial.codec)
        logger.info(initial.inherited)
        logger.info(initial.new)
    else:
        state.initialise(crops)
    return state, crops
