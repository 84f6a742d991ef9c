"""What learns: the codec, the average of its weights, and the optimisers."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from attncodec.config import QUALITY_STEPS, Config
from attncodec.environment import has_bf16
from attncodec.metrics import rd_loss
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


@dataclass(frozen=True)
class StepResult:
    """What a step did; where its loss or gradient was not finite, `taken` is False, and nothing has moved."""

    taken: bool
    loss: float
    gradient_norm: float
    level: Tensor  # (B,) on the CPU, as the two below: the quality level nearest to each crop's, from 0
    rate_bpp: Tensor
    mse_255: Tensor


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
        """Weights from the seed; `initialise`, `begin_from` or `restore` must follow."""
        torch.manual_seed(config.train.seed)
        codec = build_codec(config.model)
        codec.to(device).to(memory_format=torch.channels_last)
        averaged = copy.deepcopy(codec).requires_grad_(False)
        return cls(config, device, codec, averaged, build_optimisers(codec, config.train.lr, has_bf16(device)))

    def initialise(self, crops: Crops) -> None:
        """Before the first step: units and gains from the pictures."""
        batches = [self.to_float(crops.at(step)) for step in range(-(-INITIALISATION_CROPS // self.config.train.batch))]
        self.codec.initialise(torch.cat(batches))
        self.averaged.load_state_dict(self.codec.state_dict())

    def begin_from(self, codec: Codec) -> None:
        """The weights of another codec of the same shape, in place of `initialise`."""
        for mine in (self.codec, self.averaged):
            mine.load_state_dict(codec.state_dict())

    def step(self, step: int, lr: float, crops: Tensor, generation: int = 0) -> StepResult:
        """One step on uint8 crops (B, 3, H, W). It depends on the seed, the step and the generation alone."""
        options = self.config.train
        x = self.to_float(crops)
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step + (generation << 52))
        levels = self.config.model.levels
        position = torch.randint(QUALITY_STEPS * (len(levels) - 1) + 1, (x.shape[0],), generator=generator)
        rd_lambda = torch.tensor([rd_lambda_at(levels, int(p)) for p in position], device=self.device)
        channel = Noise(generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bf16(self.device)):
            x_hat = self.codec(x, channel, position.to(self.device))
        result = rd_loss(x, x_hat, channel.bits, rd_lambda, options.ms_ssim_share)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        result.loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), options.clip)
        taken = bool(torch.isfinite(norm) & torch.isfinite(result.loss))
        if taken:
            self._move(step, lr)
        return StepResult(
            taken,
            float(result.loss.detach()),
            float(norm),
            torch.round(position / QUALITY_STEPS).long(),
            result.rate_bpp.detach().cpu(),
            result.mse_255.detach().cpu(),
        )

    def _move(self, step: int, lr: float) -> None:
        """The weights by their gradients, and the averaged weights after them."""
        set_learning_rate(self.optimisers, lr)
        for optimiser in self.optimisers.values():
            optimiser.step()
        weight = 1 - min(self.config.train.ema, (1 + step) / (AVERAGE_WARMUP + step))
        for average, parameter in zip(self.averaged.parameters(), self.codec.parameters(), strict=True):
            average.lerp_(parameter.detach(), weight)

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
