"""What learns: the codec, the average of its weights, and the optimisers."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from attncodec.config import QUALITY_STEPS, Config
from attncodec.environment import has_bf16
from attncodec.errors import TrainingError
from attncodec.metrics import RDLoss, rd_loss
from attncodec.model.channel import Noise
from attncodec.model.codec import Codec, rd_lambda_at
from attncodec.training.checkpoint import AVERAGE, MODEL, OPTIMISER, Checkpoint, build_codec, load_weights
from attncodec.training.data import Crops
from attncodec.training.optim import (
    Optimisers,
    build_optimisers,
    load_state_tensors,
    set_learning_rate,
    state_tensors,
)

INITIALISATION_CROPS = 32
AVERAGE_WARMUP = 10  # the average follows closely at first: its decay at step s is at most (1 + s) / (10 + s)


@dataclass
class Learner:
    """All that a checkpoint keeps, and the step that moves it."""

    config: Config
    device: torch.device
    codec: Codec
    averaged: Codec
    optimisers: Optimisers

    @classmethod
    def build(cls, config: Config, device: torch.device) -> "Learner":
        """Weights from the seed; `initialise` or `restore` must follow."""
        torch.manual_seed(config.train.seed)
        codec = build_codec(config.model)
        codec.to(device).to(memory_format=torch.channels_last)
        averaged = copy.deepcopy(codec).requires_grad_(False)
        return cls(config, device, codec, averaged, build_optimisers(codec, config.train.lr, has_bf16(device)))

    def initialise(self, crops: Crops) -> None:
        """Before the first step: units and gains from the pictures."""
        batches = [self.to_float(crops.at(step)) for step in range(-(-INITIALISATION_CROPS // crops.batch))]
        self.codec.initialise(torch.cat(batches))
        self.averaged.load_state_dict(self.codec.state_dict())

    def step(self, step: int, lr: float, crops: Tensor) -> RDLoss:
        """One step on uint8 crops (B, 3, H, W). Raises TrainingError, before anything moves, if it is not finite."""
        options = self.config.train
        x = self.to_float(crops)
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        levels = self.config.model.levels
        position = torch.randint(QUALITY_STEPS * (len(levels) - 1) + 1, (x.shape[0],), generator=generator)
        rd_lambda = torch.tensor([rd_lambda_at(levels, int(p)) for p in position], device=self.device)
        channel = Noise(generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bf16(self.device)):
            x_hat = self.codec(x, channel, position.to(self.device))
        result = rd_loss(x, x_hat, channel.bits, rd_lambda)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        result.loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), options.clip)
        if not torch.isfinite(norm):
            raise TrainingError(f"the gradient is not finite at step {step}", f"try a train.lr below {options.lr}")
        set_learning_rate(self.optimisers, lr)
        for optimiser in self.optimisers.values():
            optimiser.step()
        weight = 1 - min(options.ema, (1 + step) / (AVERAGE_WARMUP + step))
        for average, parameter in zip(self.averaged.parameters(), self.codec.parameters(), strict=True):
            average.lerp_(parameter.detach(), weight)
        return result

    def to_float(self, crops: Tensor) -> Tensor:
        """uint8 -> [0, 1] on the device, channels last."""
        return crops.to(self.device).float().div(255).contiguous(memory_format=torch.channels_last)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that must be kept to go on."""
        return {
            **{MODEL + name: tensor for name, tensor in self.codec.state_dict().items()},
            **{AVERAGE + name: tensor for name, tensor in self.averaged.state_dict().items()},
            **{OPTIMISER + name: tensor for name, tensor in state_tensors(self.optimisers).items()},
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """The inverse of `tensors`."""
        load_weights(self.codec, checkpoint.part(MODEL))
        load_weights(self.averaged, checkpoint.part(AVERAGE))
        load_state_tensors(self.optimisers, checkpoint.part(OPTIMISER))
