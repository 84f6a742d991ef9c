"""Training, to be read from top to bottom."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from tqdm import tqdm

from attncodec.config import QUALITY_STEPS, Budget, Config
from attncodec.errors import ConfigError
from attncodec.images import RGB, find_pictures
from attncodec.metrics import RDLoss, level_weight, mse_to_psnr_db, psnr_db
from attncodec.model.codec import rd_lambda_at
from attncodec.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, seal_checkpoint
from attncodec.training.data import Crops, Picture, PictureSet, centre, read_pictures, split_pictures
from attncodec.training.learner import Learner
from attncodec.training.optim import learning_rate
from attncodec.training.progress import Clock, Display, Progress, StopRequest
from attncodec.training.run import MetricsRow, Recorder, RunFolder

REPORT_EVERY = 20  # steps
CHECKPOINT_EVERY_S = 120.0
VALIDATION_QUALITIES = (0.0, 3 / 7, 1.0)  # of the way from the first level to the last: 1, 4 and 8 of 8
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
    folder = RunFolder(out)
    checkpoint = folder.checkpoint(config) if not restart else None
    budget = checkpoint.budget if checkpoint else Budget.parse(config.train.budget)
    progress = checkpoint.progress if checkpoint else Progress()
    if extend is not None:
        if not progress.finished:
            raise ConfigError(f"{out} holds no finished run to extend", "without --extend it begins, or goes on")
        budget, progress.finished = budget + extend, False
    if progress.finished and folder.model.exists():
        return Outcome(folder, progress, trained=False)
    pictures = load_pictures(config, say)
    folder.prepare(config, pictures, device.type, checkpoint is not None)
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
            if not progress.finished:
                fit(run, stop)
            # The end of a schedule is not always its best; a run that was stopped has nothing better than where it is.
            best = load_checkpoint(folder.best if progress.finished else folder.last)
            sealed = seal_checkpoint(best)
            sealed.save(folder.model)
            if progress.finished:
                row = run.validate(sealed.codec.reconstruct, "sealed")
                say(
                    f"the sealed model, of step {best.progress.step}, on held-out pictures: "
                    f"{row.bpp:.4f} bpp, {row.psnr_db:.2f} dB"
                )
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

    def record(self, kind: str, loss: float, bpp: float, psnr_db: float, quality: float | None = None) -> MetricsRow:
        at = (self.progress.step, self.progress.elapsed_s)
        row = MetricsRow(kind, *at, quality, loss, bpp, psnr_db, self.lr, self.crops_per_s)
        self.recorder.add(row)
        return row

    def validate(self, reconstruct: Callable[[RGB, int], tuple[RGB, float]], kind: str = "validation") -> MetricsRow:
        """Rate (estimated) and PSNR of 8-bit pictures, means over the held-out ones: a row for each of the qualities
        that are looked at, and one, which is returned, of their means."""
        levels = self.learner.config.model.levels
        positions = sorted({round(share * QUALITY_STEPS * (len(levels) - 1)) for share in VALIDATION_QUALITIES})
        rows = [self._validate(reconstruct, kind, position) for position in positions]
        means = (fmean(getattr(row, figure) for row in rows) for figure in ("loss", "bpp", "psnr_db"))
        return rows[0] if len(rows) == 1 else self.record(kind, *means)

    def _validate(self, reconstruct: Callable[[RGB, int], tuple[RGB, float]], kind: str, position: int) -> MetricsRow:
        pictures = [centre(picture.rgb) for picture in self.held_out if picture.rgb is not None]
        rate_bpp, mse_255, quality_db = [], [], []
        for rgb in pictures:
            decoded, bits = reconstruct(rgb, position)
            rate_bpp.append(bits / (rgb.shape[0] * rgb.shape[1]))
            mse_255.append(float(np.mean((decoded.astype(np.float64) - rgb) ** 2)))
            quality_db.append(psnr_db(decoded, rgb) or LOSSLESS_DB)
        rd_lambda = rd_lambda_at(self.learner.config.model.levels, position)
        weight = float(level_weight(torch.tensor(rd_lambda)))
        loss = (fmean(rate_bpp) + rd_lambda * fmean(mse_255)) * weight
        quality = 1 + position / QUALITY_STEPS
        return self.record(kind, loss, fmean(rate_bpp), fmean(quality_db), quality)

    def keep_best(self, row: MetricsRow) -> None:
        """Save the averaged weights as the best if their validation says so."""
        if math.isfinite(row.loss) and (self.progress.best_loss is None or row.loss < self.progress.best_loss):
            self.progress.best_loss = row.loss
            self.save(self.folder.best)


def fit(run: Run, stop: StopRequest) -> None:
    """The loop. It ends with a checkpoint: where the budget is spent (`progress.finished`), or a stop is asked for."""
    options, progress, learner = run.learner.config.train, run.progress, run.learner
    clock = Clock(run.budget, progress)
    display = Display(run.budget, clock.spent())
    validations = int(clock.fraction() * options.validations)
    saved = time.monotonic()
    means = Means(options.batch)

    def check() -> None:
        row = run.validate(learner.averaged.reconstruct)
        display.say(f"step {row.step}: validation {row.bpp:.4f} bpp, {row.psnr_db:.2f} dB, loss {row.loss:.4f}")
        run.keep_best(row)
        run.save(run.folder.last)

    def report() -> None:
        loss, rate_bpp, mse_255, run.crops_per_s = means.take()
        row = run.record("train", loss, rate_bpp, mse_to_psnr_db(mse_255))
        display.show(loss=f"{loss:.3f}", bpp=f"{rate_bpp:.3f}", PSNR=f"{row.psnr_db:.2f}")
        display.show(**{"crops/s": f"{run.crops_per_s:.1f}"})

    try:
        while not stop.asked:
            fraction = clock.fraction_after_step()
            if fraction > 1:
                if means.count:
                    report()
                check()
                progress.finished = True
                break
            began = time.monotonic()
            run.lr = learning_rate(options.lr, options.warmup, progress.step, fraction)
            result = learner.step(progress.step, run.lr, run.crops.at(progress.step))
            clock.tick()
            now = time.monotonic()
            means.add(result, now - began)
            if progress.step % REPORT_EVERY == 0:
                report()
            display.update(clock.spent(), progress.step)
            due = int(clock.fraction() * options.validations)
            if validations < due < options.validations:  # the last one comes after the last step
                check()
            elif now - saved > CHECKPOINT_EVERY_S:
                run.save(run.folder.last)
                saved = now
            validations = due
    finally:
        display.close()
        clock.spent()
        run.save(run.folder.last)


class Means:
    """Sums over the steps since the last report."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.sums, self.count, self.seconds = torch.zeros(3), 0, 0.0

    def add(self, result: RDLoss, seconds: float) -> None:
        self.sums += torch.stack([result.loss, result.rate_bpp, result.mse_255]).detach().cpu()
        self.count += 1
        self.seconds += seconds

    def take(self) -> tuple[float, float, float, float]:
        """Mean loss, bpp and MSE, and crops a second, of the steps alone; begins anew."""
        loss, rate_bpp, mse_255 = (self.sums / self.count).tolist()
        crops_per_s = self.count * self.batch / self.seconds
        self.sums, self.count, self.seconds = torch.zeros(3), 0, 0.0
        return loss, rate_bpp, mse_255, crops_per_s


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
