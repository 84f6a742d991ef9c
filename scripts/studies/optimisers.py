"""Compare optimisers, learning rates and batches by what they learn in equal time on the same pictures.

    python scripts/studies/optimisers.py PICTURES [--minutes 5] [--only NAME,NAME] [--out results/optimisers]

A variant is the configuration `default` except for what its name says. One that names an optimiser, and `usual`, has
batches of 8 if its name says no other. It is trained into runs/study_optimisers-NAME and measured on the pictures that
its run held out of training, through real files. The BD-rate is against the default, of the mean over pictures; a
negative one means less rate at equal PSNR. `usual` starts from random weights under Adam at 1e-4, as CompressAI's
example does.

Nothing should run beside it. A variant whose figures exist is not trained again. SOAP comes from the package
pytorch-optimizer, which only its rows need.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from variants import compare

from attncodec.config import TrainConfig
from attncodec.training.optimisers import OPTIMISERS, Optimisers


def adam(parameters: list[nn.Parameter], config: TrainConfig, bf16: bool) -> Optimisers:
    return {"adam": torch.optim.Adam(parameters, config.lr, fused=True)}


def soap(parameters: list[nn.Parameter], config: TrainConfig, bf16: bool) -> Optimisers:
    from pytorch_optimizer import SOAP

    class Soap(SOAP):  # type: ignore[misc]
        """SOAP without a saved state, which has lists in it; no run of this study is resumed."""

        def state_dict(self) -> dict[str, Any]:
            return {"state": {}, "param_groups": super().state_dict()["param_groups"]}

    return {"soap": Soap(parameters, config.lr, betas=(0.9, 0.95), weight_decay=0.0)}


OPTIMISERS |= {"adam": adam, "soap": soap}


def of(optimiser: str, lr: float, batch: int = 8) -> tuple[str, ...]:
    return f"train.optimiser={optimiser}", f"train.lr={lr}", f"train.batch={batch}"


VARIANTS = {
    "default": (),
    "Muon batch 8": of("muon", 1.5e-3),
    "AdamW 5e-4": of("adamw", 5e-4),
    "AdamW 1e-3": of("adamw", 1e-3),
    "AdamW 2e-3": of("adamw", 2e-3),
    "AdamW 1e-3 batch 16": of("adamw", 1e-3, 16),
    "SOAP 1e-3": of("soap", 1e-3),
    "SOAP 1e-3 batch 16": of("soap", 1e-3, 16),
    "larger crops at the end": ("train.phases=[{share: 0.8, lr: [1, 0.1]}, {share: 0.2, crop: 384, lr: [0.1, 0]}]",),
    "constant for two fifths": ("train.phases=[{share: 0.4, lr: [1, 1]}, {share: 0.6}]",),
    "usual": (*of("adam", 1e-4), "train.initialisation=random"),
}

if __name__ == "__main__":
    compare(__doc__, __file__, VARIANTS, Path("results/optimisers"))
