"""Measure what each part is worth if it is added to the shipped model, at first without effect, at equal time.

    python scripts/study_capacity.py PICTURES --minutes 20 [--only NAMES]

The control continues as the shipped model was trained: with one step of z for all levels, with crops that are only
flipped, and with latents rounded to the nearest until the end. It runs twice, with two seeds. Each other variant adds
one part. A part wins if its loss is below the better control's by more than the two controls differ. The loss, of the
sealed model with measured tables at qualities 1, 4 and 8, and the files, at qualities 1, 3, 5 and 8, are those of the
pictures that the runs held out.

Nothing should run beside it; a variant takes about 25 minutes. Results that exist are not made again. It was run from
the shipped weights of commit 79b33f5, which also has `levels of the synthesis`, a part that did not win and was
removed.
"""

from collections.abc import Callable
from pathlib import Path

from variants import Results, Variant, change, compare

START = ("train.init=shipped", "train.phases=[{share: 1}]", "train.lr=3e-4", "data.crop=192", "train.batch=16")
LAST = "{share: 0.3, lr: [0.5, 0], frozen: [analysis, gains, hyper_analysis], rounding: encoder}"


def without(gains_of_z: bool = True, new_crops: bool = True) -> Callable[[], None]:
    """Return a patch that leaves out gains of z, which then stay zero, and crops that are turned or reduced."""

    def patch() -> None:
        from attncodec.training import data
        from attncodec.training.train_state import TrainState

        original = TrainState.enter

        def enter(self: TrainState, number: int, before: int) -> int:
            entered = original(self, number, before)
            self.codec.log2_gain_z.requires_grad_(not gains_of_z)
            return entered

        TrainState.enter = enter
        if new_crops:
            data.SYMMETRIES, data.REDUCTION_MIN = 4, 1.0

    return patch


VARIANTS = {
    "control": Variant(START, without()),
    "control with another seed": Variant((*START, "train.seed=1"), without()),
    "levels of z": Variant(START, without(gains_of_z=False)),
    "last phase": Variant((*START, f"train.phases=[{{share: 0.7}}, {LAST}]"), without()),
    "crops": Variant(START, without(new_crops=False)),
}
CONTROLS = list(VARIANTS)[:2]


def verdicts(results: Results, reference: str) -> str:
    """Format a Markdown table that says which parts win."""
    controls = [results[name]["loss"] for name in CONTROLS if name in results]
    best, differ = min(controls), max(controls) - min(controls)
    lines = [
        f"The two controls differ by {100 * differ / best:.3f} %." if len(controls) == 2 else "",
        "",
        "| variant | steps | loss | to the better control | BD-rate to the first | wins |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, found in results.items():
        wins = "" if name in CONTROLS else "yes" if found["loss"] < best - differ else "no"
        lines.append(
            f"| {name} | {found['steps']} | {found['loss']:.4f} | {100 * (found['loss'] / best - 1):+.2f} % "
            f"| {change(results[reference], found)} | {wins} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    compare(__doc__, __file__, VARIANTS, Path("results/capacity"), Path("configs/shipped.yaml"), verdicts)
