"""This module seals the averaged weights of a checkpoint, with tables that are measured on training pictures."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.config import Config
from attncodec.errors import CheckpointError, ConfigError, ImageError, TrainingError
from attncodec.networks.hyperprior import HyperpriorCodec, build_codec
from attncodec.training.checkpoint import AVERAGE, Checkpoint
from attncodec.training.data import Crops
from attncodec.training.picture_roles import TRAIN, Listing
from attncodec.training.picture_set import read_headers
from attncodec.training.picture_sources import find_sources
from attncodec.training.run_folder import RunFolder
from attncodec.training.train_state import load_weights
from attncodec.version import __version__

logger = logging.getLogger(__name__)

# These set how many crops tables are measured on, which takes a minute for the default networks on two cores.
MEASURED_PIXELS, MEASURED_CROPS_MIN, MEASURED_CROPS_MAX = 1 << 21, 8, 48


def averaged_codec(checkpoint: Checkpoint) -> HyperpriorCodec:
    """Build the codec with the averaged weights, which is validated and sealed.

    Raises CheckpointError if the weights do not fit it.
    """
    codec = build_codec(checkpoint.config.model)
    load_weights(codec, checkpoint.part(AVERAGE))
    return codec


def seal_checkpoint(checkpoint: Checkpoint, crops: Tensor | None = None) -> SealedCodec:
    """Make a sealed codec of a checkpoint.

    Its tables are measured on `crops` of its training pictures, (N, 3, H, W) in [0, 1]; without crops they are
    analytic.
    """
    training_info = {
        "steps": checkpoint.progress.step,
        "elapsed_s": round(checkpoint.progress.elapsed_s, 1),
        "attncodec": __version__,
    }
    learned = checkpoint.config.train.phases[checkpoint.progress.phase].rounding
    return seal(averaged_codec(checkpoint), training_info, crops, learned=learned)


def crops_to_measure(crops: Crops) -> Tensor:
    """Cut the crops that tables are measured on from the training pictures, (N, 3, side, side) in [0, 1]."""
    side = crops.config.data.crop
    count = min(max(MEASURED_PIXELS // side**2, MEASURED_CROPS_MIN), MEASURED_CROPS_MAX)
    return crops.first(count).cpu().float() / 255


def pictures_to_measure(config: Config, checkpoint: Path) -> Tensor | None:
    """Cut such crops from the pictures that the run of a checkpoint was trained on.

    These are the pictures in `data.train` that the run's list of pictures names and that have not changed. If there are
    none any more, logs a warning and returns None.
    """
    path = RunFolder(checkpoint.absolute().parent.parent).pictures
    config = config.model_copy(update={"data": config.data.model_copy(update={"cache": "none"})})
    try:
        listing = Listing.read(path)
        if listing is None:
            raise ConfigError(f"there is no {path}")
        trained = listing.used(TRAIN)
        found = read_headers(find_sources(Path(config.data.train)), hash_files=listing.of_whole_files)
        pictures = [p for p in found if p.name in trained and listing.has(p) and not p.problem]
        logger.info("measuring probability tables on %d of the %d training pictures", len(pictures), len(trained))
        if not pictures:
            raise ConfigError(f"no picture in {config.data.train} matches the list in {path}")
        crops = Crops(pictures, config, torch.device("cpu"))
        try:
            return crops_to_measure(crops)
        finally:
            crops.close()
    except (CheckpointError, ConfigError, ImageError, TrainingError) as error:
        logger.warning("note: %s; the tables stay analytic, so files become larger", error)
        return None
