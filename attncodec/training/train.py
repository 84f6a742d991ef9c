"""This module trains a model file from a configuration and a folder of pictures, or continues a run."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from attncodec.budget import Budget
from attncodec.config import Config
from attncodec.distributed import SINGLE_PROCESS, Distributed, restarts_of_torchrun
from attncodec.errors import ConfigError
from attncodec.training.init_from import with_networks
from attncodec.training.progress import Progress, Report, StopRequest
from attncodec.training.run_folder import Recorder, RunFolder
from attncodec.training.setup import check_parts, check_same, load_held_out, load_pictures, set_up
from attncodec.training.trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Says how a call of `train` ended."""

    folder: RunFolder
    progress: Progress
    trained: bool  # This is False if the run was finished before the call.

    @property
    def model(self) -> Path:
        """Return the path of the sealed model."""
        return self.folder.model


def train(
    config: Config,
    out: Path,
    device: torch.device,
    restart: bool = False,
    extend: Budget | None = None,
    distributed: Distributed = SINGLE_PROCESS,
    on_progress: Callable[[Report], None] | None = None,
) -> Outcome:
    """Train, or continue where the run in `out` stopped, until the budget is spent or a stop is asked for.

    In a process group, all processes call this with the same arguments, and only rank 0 writes. `on_progress` is called
    on rank 0 whenever metrics.csv gets a row of training.

    Raises ConfigError if there are no pictures, or if the configuration or the pictures are not those that the run
    began with. Raises CheckpointError if a checkpoint cannot be used, and TrainingError if the loss keeps diverging or
    the disk is full.
    """
    np.finfo(np.float32), np.finfo(np.float64)  # NumPy computes these once, and warns if denormals are flushed by then.
    torch.set_flush_denormal(True)  # Denormals are slow, and do not matter here.
    if restart and extend:
        raise ConfigError("--restart starts over, but --extend continues", "give only one of them")
    if (restart or extend) and restarts_of_torchrun():
        raise ConfigError(
            "torchrun would repeat --restart or --extend whenever it restarts its processes",
            "use --max-restarts 0 (for scripts/slurm: RESTARTS=0), or run it first with one process for a few steps",
        )
    folder = RunFolder(out)
    config = distributed.run_on_rank0(lambda: with_networks(config, None if restart else folder.began_with()))
    check_parts(config)
    checkpoint = distributed.run_on_rank0(lambda: folder.checkpoint(config) if not restart else None)
    budget = checkpoint.budget if checkpoint else Budget.parse(config.train.budget)
    progress = checkpoint.progress if checkpoint else Progress()
    if extend is not None:
        budget = _extended(budget, progress, extend, out)
    if distributed.run_on_rank0(lambda: progress.finished and folder.model.exists()):
        return Outcome(folder, progress, trained=False)
    pictures = load_pictures(config, distributed)
    held_out = load_held_out(pictures)
    check_same(pictures, held_out, distributed)
    state, crops = set_up(config, device, pictures, checkpoint, distributed)
    distributed.run_on_rank0(lambda: folder.prepare(config, pictures, device.type, checkpoint is not None))
    if checkpoint:
        logger.info("continuing %s at step %d", out, progress.step)
    recorder = Recorder(folder, progress.step, progress.rollback_count) if distributed.is_rank0 else None
    try:
        with StopRequest() as stop:
            trainer = Trainer(
                state, crops, held_out, budget, progress, folder, recorder, stop, distributed, on_progress
            )
            if not checkpoint and distributed.is_rank0:
                trainer.rollback_checkpoints.save(trainer.checkpoint())
            if not progress.finished:
                trainer.fit()
            distributed.run_on_rank0(trainer.seal)
    finally:
        crops.close()
        if recorder:
            recorder.close()
    return Outcome(folder, progress, trained=True)


def _extended(budget: Budget, progress: Progress, extend: Budget, out: Path) -> Budget:
    """Return a larger budget for a finished run, which then is finished no longer. Raises ConfigError for another."""
    if not progress.finished:
        raise ConfigError(f"{out} has no finished run to extend", "leave out --extend to start or continue a run")
    spent = progress.elapsed_s if budget.unit == "seconds" else progress.step
    progress.finished = False
    return budget.at_least(spent) + extend
