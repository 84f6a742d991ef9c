"""The command `attncodec train`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from attncodec.cli.options import at_home
from attncodec.configs import run_folder_of, shipped_configs
from attncodec.console import INTERRUPTED


def list_configs() -> str:
    """Return the names of the shipped configurations and what each is for, as the end of the help text."""
    found = shipped_configs()
    width = max(map(len, found))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in found.items()]
    return "\n".join(["\b", "Shipped configurations:", *lines])  # \b keeps the lines as they are


def train(
    config: Annotated[
        str,
        typer.Option("--config", "-c", callback=at_home, help="YAML file, or the name of a shipped configuration."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="data.train=FOLDER train.budget=20m ...")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", callback=at_home, help="Run folder; runs/<config name> by default."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Device to train on.")] = "auto",
    restart: Annotated[
        bool, typer.Option("--restart", help="Start the run over; its model and checkpoints are removed first.")
    ] = False,
    extend: Annotated[str | None, typer.Option(help="Train longer by this time (2h) or number of steps.")] = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Run a few steps, show what training takes, and write nothing.")
    ] = False,
) -> None:
    """Train a codec on a folder of pictures. Ctrl-C saves and stops; run the same command again to continue."""
    import logging

    from attncodec.budget import budget_of_option
    from attncodec.config_file import load_config
    from attncodec.device import resolve_device
    from attncodec.distributed import process_group_of_torchrun

    logger = logging.getLogger(__name__)
    with process_group_of_torchrun(lambda: resolve_device(device).type) as distributed:
        resolved = load_config(config, overrides or [])
        folder = out or run_folder_of(config)
        extension = budget_of_option("--extend", extend)
        chosen = resolve_device(device)
        if dry:
            from attncodec.training.dryrun import dry_run

            facts = dry_run(resolved, folder, chosen, restart, extension)
            if distributed.is_rank0:
                print("\n".join(f"{name:<14} {value}" for name, value in facts.items()))
            return
        from attncodec.training.train import train as train_run

        outcome = train_run(resolved, folder, chosen, restart, extension, distributed)
        progress, model = outcome.progress, outcome.folder.model
        if not outcome.trained:
            logger.info("%s is finished, at step %d; its model is %s", folder, progress.step, model)
            logger.info("hint: --extend 2h trains longer, --restart starts over")
        elif progress.finished:
            logger.info("finished at step %d; model sealed into %s", progress.step, model)
            logger.info("next: attncodec eval FOLDER --model %s", model)
        else:
            logger.info("stopped at step %d; saved, and sealed into %s with analytic tables", progress.step, model)
            logger.info("hint: run the same command again to continue")
    if outcome.trained and not progress.finished and distributed.size == 1:
        raise typer.Exit(INTERRUPTED)  # torchrun would take it for a failure and restart all ranks
