"""A run and its dry run start here: all that can be refused before a picture is read is refused."""

from dataclasses import dataclass
from pathlib import Path

from attncodec.budget import Budget
from attncodec.config import Config
from attncodec.distributed import SINGLE_PROCESS, Distributed, restarts_of_torchrun
from attncodec.errors import ConfigError
from attncodec.training.checkpoint import Checkpoint
from attncodec.training.init_from import with_networks
from attncodec.training.progress import Progress
from attncodec.training.run_folder import RunFolder
from attncodec.training.setup import check_parts


@dataclass(frozen=True)
class RunStart:
    """Holds what a run begins or continues with."""

    folder: RunFolder
    config: Config  # The networks are those of the file of train.init, where the configuration leaves them out.
    checkpoint: Checkpoint | None  # This is None for a run that begins.
    budget: Budget
    progress: Progress


def start_run(
    config: Config,
    out: Path,
    restart: bool = False,
    extend: Budget | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> RunStart:
    """Find out what a run in `out` begins or continues with, and write nothing.

    Raises ConfigError if the configuration cannot be trained, or is not that of the run in `out`, if `out` holds
    something else, or if `restart` or `extend` cannot be done. Raises CheckpointError if a checkpoint cannot be used.
    """
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
    if checkpoint is None:
        distributed.run_on_rank0(folder.check_unused)
    budget = checkpoint.budget if checkpoint else Budget.parse(config.train.budget)
    progress = checkpoint.progress if checkpoint else Progress()
    if extend is not None:
        budget = _extended(budget, progress, extend, out)
    return RunStart(folder, config, checkpoint, budget, progress)


def _extended(budget: Budget, progress: Progress, extend: Budget, out: Path) -> Budget:
    """Return a larger budget for a finished run, which then is finished no longer. Raises ConfigError for another."""
    if not progress.finished:
        raise ConfigError(f"{out} has no finished run to extend", "leave out --extend to start or continue a run")
    spent = progress.elapsed_s if budget.unit == "seconds" else progress.step
    progress.finished = False
    return budget.at_least(spent) + extend
