"""Compare optimisers, learning rates and batches by what they learn in equal time on the same pictures.

    python scripts/study_optimisers.py PICTURES [--minutes 5] [--only NAME,NAME] [--out results/optimisers]

A variant is configs/default.yaml except for what its name says. A variant that names an optimiser, and `usual`, has
batches of 8 if its name says no other. It is trained into runs/study_optimisers-NAME and measured on the pictures that
its run held out of training, through real files. The BD-rate is against the default, of the mean over pictures; a
negative one means less rate at equal PSNR. `usual` starts from random weights under Adam at 1e-4, as CompressAI's
example does.

Nothing should run beside it. A variant whose figures exist is not trained again. SOAP comes from the package
pytorch-optimizer, which only its rows need.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from ablate import usual_start
from torch import nn
from variants import Variant, compare

from attncodec.training import train_state
from attncodec.training.optimisers import Optimisers

BETAS = (0.9, 0.95)


def with_optimiser(build: Callable[[list[nn.Parameter], float], torch.optim.Optimizer]) -> Callable[[], None]:
    """Return a patch that trains all parameters with one optimiser, in place of Muon and AdamW."""

    def patch() -> None:
        def build_optimisers(codec: nn.Module, lr: float, bf16: bool) -> Optimisers:
            return {"one": build([p for p in codec.parameters() if p.requires_grad], lr)}

        train_state.build_optimisers = build_optimisers
        train_state.state_tensors = lambda optimisers: {}  # SOAP's state holds lists, and none of these runs is resumed

    return patch


def adamw(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr, betas=BETAS, weight_decay=0.0, fused=True)


def soap(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    from pytorch_optimizer import SOAP

    return SOAP(parameters, lr, betas=BETAS, weight_decay=0.0)


def usual() -> None:
    usual_start()
    with_optimiser(lambda parameters, lr: torch.optim.Adam(parameters, lr, fused=True))()


def of(optimiser: Callable[..., torch.optim.Optimizer] | None, lr: float, batch: int = 8) -> Variant:
    return Variant((f"train.lr={lr}", f"train.batch={batch}"), optimiser and with_optimiser(optimiser))


VARIANTS = {
    "default": Variant(),
    "Muon batch 8": of(None, 1.5e-3),
    "AdamW 5e-4": of(adamw, 5e-4),
    "AdamW 1e-3": of(adamw, 1e-3),
    "AdamW 2e-3": of(adamw, 2e-3),
    "AdamW 1e-3 batch 16": of(adamw, 1e-3, 16),
    "SOAP 1e-3": of(soap, 1e-3),
    "SOAP 1e-3 batch 16": of(soap, 1e-3, 16),
    "larger crops at the end": Variant(
        ("train.phases=[{share: 0.8, lr: [1, 0.1]}, {share: 0.2, crop: 384, lr: [0.1, 0]}]",)
    ),
    "constant for two fifths": Variant(("train.phases=[{share: 0.4, lr: [1, 1]}, {share: 0.6}]",)),
    "usual": Variant(("train.lr=1e-4", "train.batch=8"), usual),
}

if __name__ == "__main__":
    compare(__doc__, __file__, VARIANTS, Path("results/optimisers"))
