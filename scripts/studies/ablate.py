"""Measure what each part of the codec is worth, by variants trained for equal time on the same pictures.

    python scripts/studies/ablate.py PICTURES [--minutes 5] [--out results/ablation]

A variant is one change to the configuration `default`, trained into runs/ablate-NAME and measured on the pictures that
its run held out of training, through real files. The BD-rate is against the default, of the mean over pictures; a
negative one means less rate at equal PSNR. Nothing should run beside it. A variant whose figures exist is not trained
again.
"""

from pathlib import Path

from variants import compare

VARIANTS = {
    "default": (),
    "checkerboard": ("model.context=checkerboard",),
    "no context": ("model.context=none",),
    "no attention": ("model.attention.kind=none",),
    "attention at strides 8 and 16": ("model.attention.strides=[8,16]",),
    "three quarters as wide": ("model.widths=[48,96,144]",),
    "no scales from data": ("train.initialisation=unmeasured-dct",),
    "no DCT": ("train.initialisation=random",),
}


if __name__ == "__main__":
    compare(__doc__, __file__, VARIANTS, Path("results/ablation"))
