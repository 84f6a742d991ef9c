"""AdamW for all parameters: Loshchilov & Hutter 2019 (arXiv 1711.05101)."""

import torch
from pydantic import Field
from torch import nn

from attncodec.config import Section, TrainConfig
from attncodec.registry import read_options


class AdamWOptions(Section):
    """The options of AdamW, as torch names them."""

    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the mean of the gradients.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of the mean of their squares.")
    weight_decay: float = Field(default=0.0, ge=0, description="Share of the weights that a step takes away.")


def build_adamw(parameters: list[nn.Parameter], config: TrainConfig, bf16: bool) -> dict[str, torch.optim.Optimizer]:
    """Build AdamW in torch's fused form, which keeps its state in float32 whatever the networks run in."""
    options = read_options(AdamWOptions, config.optimiser_options, "train.optimiser_options")
    on_gpu = parameters[0].device.type == "cuda"
    betas = (options.beta1, options.beta2)
    return {
        "adamw": torch.optim.AdamW(
            parameters, config.lr, betas, weight_decay=options.weight_decay, fused=True, capturable=on_gpu
        )
    }
