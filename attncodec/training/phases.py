"""This module finds the phase and the learning rate that belong to a share of the budget."""

import math
from dataclasses import dataclass

from attncodec.config import Config, Phase


@dataclass(frozen=True)
class Place:
    """Holds a phase, its number, and the part of it that is spent, from 0 to 1."""

    number: int
    spent: float
    phase: Phase


def place_at(config: Config, fraction: float) -> Place:
    """Return the place in the phases where a fraction of the budget is spent.

    A boundary between two phases is the end of the first. All fractions above 1 are the end of the last phase.
    """
    start = 0.0
    for number, phase in enumerate(config.train.phases):
        spent = (fraction - start) / phase.share
        if spent <= 1 or number == len(config.train.phases) - 1:
            return Place(number, min(max(spent, 0.0), 1.0), phase)
        start += phase.share
    raise AssertionError("a configuration has a phase")


def description(config: Config, number: int, crops: int) -> str:
    """Describe the phase of this number, whose steps have so many crops."""
    phase, options = config.train.phases[number], config.train
    begin, end = (options.lr * factor for factor in phase.lr)
    rate = f"{begin:g}" if begin == end else f"{begin:g} to {end:g}"
    parts = [f"{100 * phase.share:.3g} % of the budget", f"batch {crops}, crop {config.crop_in(phase)}"]
    parts += [f"learning rate {rate}", *([f"frozen: {', '.join(phase.frozen)}"] if phase.frozen else [])]
    parts += ["latents rounded as the encoder does"] if phase.rounding == "encoder" else []
    return f"phase {number + 1} of {len(options.phases)}: {'; '.join(parts)}"


def learning_rate(config: Config, step: int, place: Place) -> float:
    """Return the learning rate: a cosine over the phase, times a linear warm-up over the first steps of the run."""
    begin, end = place.phase.lr
    rise = min(1.0, (step + 1) / (config.train.warmup + 1))
    return config.train.lr * rise * (end + (begin - end) * 0.5 * (1 + math.cos(math.pi * place.spent)))
