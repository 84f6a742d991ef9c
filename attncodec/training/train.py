"""This module trains a model file from a configuration and a folder of pictures, or continues a run."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from attncodec.budget import Budget
from attncodec.config import Config
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.folder_lock import held
from attncodec.training.progress import Progress, Report, StopRequest
from attncodec.training.report import write_report
from attncodec.training.run_folder import Recorder, RunFolder
from attncodec.training.run_start import RunStart, start_run
from attncodec.training.setup import check_same, load_held_out, load_pictures, set_up
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

    Raises what `start_run` raises, ConfigError if another process trains in `out`, if there are no pictures, or if they
    are not those that the run began with, and TrainingError if the loss keeps diverging or the disk is full.
    """
    np.finfo(np.float32), np.finfo(np.float64)  # NumPy computes these once, and warns if denormals are flushed by then.
    torch.set_flush_denormal(True)  # Denormals are slow, and do not matter here.
    with held(out, distributed):
        start = start_run(config, out, restart, extend, distributed)
        if distributed.run_on_rank0(lambda: start.progress.finished and start.folder.model.exists()):
            _add_report(start, distributed)
            return Outcome(start.folder, start.progress, trained=False)
        _train(start, device, distributed, on_progress)
    return Outcome(start.folder, start.progress, trained=True)


def _train(
    start: RunStart, device: torch.device, distributed: Distributed, on_progress: Callable[[Report], None] | None
) -> None:
    config, folder, checkpoint, progress = start.config, start.folder, start.checkpoint, start.progress
    listing = distributed.run_on_rank0(folder.listing) if checkpoint else None
    pictures = load_pictures(config, distributed, listing)
    held_out = load_held_out(pictures)
    check_same(pictures, held_out, distributed)
    state, crops = set_up(config, device, pictures, checkpoint, distributed)
    distributed.run_on_rank0(lambda: folder.prepare(config, pictures, device.type, checkpoint is not None))
    if checkpoint:
        logger.info("continuing %s at step %d", folder.path, progress.step)
    recorder = Recorder(folder, progress.step, progress.rollback_count) if distributed.is_rank0 else None
    try:
        with StopRequest() as stop:
            trainer = Trainer(
                state, crops, held_out, start.budget, progress, folder, recorder, stop, distributed, on_progress
            )
            if not checkpoint and distributed.is_rank0:
                trainer.rollback_checkpoints.save(trainer.checkpoint())
            if not progress.finished:
                trainer.fit()
            distributed.run_on_rank0(trainer.seal)
            if progress.finished:
                distributed.run_on_rank0(
                    lambda: write_report(folder, config, progress, lambda: held_out, lambda: stop.asked)
                )
    finally:
        crops.close()
        if recorder:
            recorder.close()


def _add_report(start: RunStart, distributed: Distributed) -> None:
    """Write the page of a finished run that was stopped before it had one."""
    folder, config = start.folder, start.config

    def add() -> None:
        if not folder.report.exists():
            with StopRequest() as stop:
                write_report(
                    folder,
                    config,
                    start.progress,
                    lambda: load_held_out(load_pictures(config, listing=folder.listing())),
                    lambda: stop.asked,
                )

    distributed.run_on_rank0(add)
