"""Training, to be read from top to bottom."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from attncodec.config import Budget, Config
from attncodec.images import RGB, find_pictures
from attncodec.metrics import mse_to_psnr_db, psnr_db
from attncodec.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, seal_checkpoint
from attncodec.training.data import Crops, Picture, PictureSet, centre, read_pictures, split_pictures
from attncodec.training.learner import Learner
from attncodec.training.optim import learning_rate
from attncodec.training.progress import Clock, Display, Progress, StopRequest
from attncodec.training.run import MetricsRow, Recorder, RunFolder

REPORT_EVERY = 20  # steps
CHECKPOINT_EVERY_S = 120.0
LOSSLESS_DB = 99.0  # what an equal picture counts as in a mean


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    folder: RunFolder
    progress: Progress
    trained: bool  # False where the run had been finished before


def train(
    config: Config,
    out: Path,
    device: torch.device,
    restart: bool = False,
    extend: Budget | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Train, or go on where the run in `out` stopped, until the budget is spent or a stop is asked for.

    Raises ConfigError (no pictures; another configuration or other pictures than the run began with), CheckpointError,
    and TrainingError (not finite).
    """
    np.finfo(np.float32), np.finfo(np.float64)  # numpy takes stock once, and warns where denormals are gone already
    torch.set_flush_denormal(True)  # denormals are slow, and mean nothing here
    find_pictures(Path(config.data.train))  # before anything is written
    folder = RunFolder(out)
    checkpoint = load_checkpoint(folder.last) if folder.prepare(config, restart) else None
    budget = checkpoint.budget if checkpoint else Budget.parse(config.train.budget)
    progress = checkpoint.progress if checkpoint else Progress()
    if extend is not None:
        budget, progress.finished = budget + extend, False
    if progress.finished:
        return Outcome(folder, progress, trained=False)
    pictures = load_pictures(config, say)
    folder.describe(pictures, device.type, resuming=checkpoint is not None)
    learner = Learner.build(config, device)
    crops = Crops(pictures.train, config.data.crop, config.train.batch, config.train.seed)
    if checkpoint:
        learner.restore(checkpoint)
        say(f"going on with {out} at step {progress.step}")
    else:
        learner.initialise(crops)
    run = Run(learner, crops, pictures.held_out, budget, progress, folder, Recorder(folder, progress.step))
    try:
        with StopRequest() as stop:
            fit(run, stop)
        # The end of a schedule is not always its best; a run that was stopped has nothing better than where it stands.
        sealed = seal_checkpoint(load_checkpoint(folder.best if progress.finished else folder.last))
        sealed.save(folder.model)
        if progress.finished:
            row = run.validate(sealed.reconstruct, "sealed")
            say(f"the sealed model on held-out pictures: {row.bpp:.4f} bpp, {row.psnr_db:.2f} dB")
    finally:
        run.recorder.close()
    return Outcome(folder, progress, trained=True)


@dataclass
class Run:
    """A run under way: what learns, from what, how long, and where it is written down."""

    learner: Learner
    crops: Crops
    held_out: list[Picture]
    budget: Budget
    progress: Progress
    folder: RunFolder
    recorder: Recorder
    lr: float = 0.0
    crops_per_s: float = 0.0

    def save(self, path: Path) -> None:
        save_checkpoint(path, Checkpoint(self.learner.config, self.budget, self.progress, self.learner.tensors()))

    def record(self, kind: str, loss: float, bpp: float, psnr_db: float) -> MetricsRow:
        progress = self.progress
        row = MetricsRow(kind, progress.step, progress.elapsed_s, loss, bpp, psnr_db, self.lr, self.crops_per_s)
        self.recorder.add(row)
        return row

    def validate(self, reconstruct: Callable[[RGB], tuple[RGB, float]], kind: str = "validation") -> MetricsRow:
        """Rate (estimated) and PSNR of 8-bit pictures, means over the held-out ones."""
        pictures = [centre(picture.rgb) for picture in self.held_out if picture.rgb is not None]
        rate_bpp = mse_255 = quality_db = 0.0
        for rgb in pictures:
            decoded, bits = reconstruct(rgb)
            difference = decoded.astype(np.float64) - rgb
            rate_bpp += bits / (rgb.shape[0] * rgb.shape[1]) / len(pictures)
            mse_255 += float(np.mean(difference**2)) / len(pictures)
            quality_db += (psnr_db(decoded, rgb) or LOSSLESS_DB) / len(pictures)
        loss = rate_bpp + self.learner.config.train.rd_lambda * mse_255
        return self.record(kind, loss, rate_bpp, quality_db)

    def keep_best(self, row: MetricsRow) -> None:
        """Save the averaged weights as the best if their validation says so."""
        if self.progress.best_loss is None or row.loss < self.progress.best_loss:
            self.progress.best_loss = row.loss
            self.save(self.folder.best)


def fit(run: Run, stop: StopRequest) -> None:
    """The loop. It ends with a checkpoint: where the budget is spent (`progress.finished`), or a stop is asked for."""
    options, progress, learner = run.learner.config.train, run.progress, run.learner
    clock = Clock(run.budget, progress)
    display = Display(run.budget, clock.spent())
    validations = int(clock.fraction() * options.validations)
    saved = reported = time.monotonic()
    sums, count = torch.zeros(3), 0

    def check() -> None:
        row = run.validate(learner.averaged.reconstruct)
        display.say(f"step {row.step}: validation {row.bpp:.4f} bpp, {row.psnr_db:.2f} dB, loss {row.loss:.4f}")
        run.keep_best(row)

    try:
        while not stop.asked:
            fraction = clock.fraction_after_step()
            if fraction > 1:
                check()
                progress.finished = True
                break
            run.lr = learning_rate(options.lr, options.warmup, progress.step, fraction)
            result = learner.step(progress.step, run.lr, run.crops.at(progress.step))
            clock.tick()
            sums += torch.stack([result.loss, result.rate_bpp, result.mse_255]).detach().cpu()
            count += 1
            now = time.monotonic()
            if progress.step % REPORT_EVERY == 0:
                loss, rate_bpp, mse_255 = (sums / count).tolist()
                run.crops_per_s = count * options.batch / (now - reported)
                row = run.record("train", loss, rate_bpp, mse_to_psnr_db(mse_255))
                display.show(loss=f"{loss:.3f}", bpp=f"{rate_bpp:.3f}", PSNR=f"{row.psnr_db:.2f}")
                display.show(**{"crops/s": f"{run.crops_per_s:.1f}"})
                sums, count, reported = torch.zeros(3), 0, now
            display.update(clock.spent(), progress.step)
            if int(clock.fraction() * options.validations) > validations:
                validations += 1
                if validations < options.validations:  # the last one comes after the last step
                    check()
            if now - saved > CHECKPOINT_EVERY_S:
                run.save(run.folder.last)
                saved = now
    finally:
        display.close()
    clock.spent()
    run.save(run.folder.last)


def load_pictures(config: Config, say: Callable[[str], None]) -> PictureSet:
    """Read the folder, and say what was found and what could not be read."""
    paths = find_pictures(Path(config.data.train))
    reading = read_pictures(Path(config.data.train), paths)
    bar = tqdm(reading, total=len(paths), desc="reading pictures", disable=not sys.stderr.isatty(), leave=False)
    pictures = split_pictures(list(bar), config.data)
    for picture in pictures.unreadable:
        say(f"left out: {picture.problem}")
    megapixels = sum(p.rgb.shape[0] * p.rgb.shape[1] for p in pictures.train if p.rgb is not None) / 1e6
    say(
        f"{len(pictures.train)} pictures to train on ({megapixels:.1f} megapixels), "
        f"{len(pictures.held_out)} held out, {len(pictures.unreadable)} unreadable"
    )
    return pictures
