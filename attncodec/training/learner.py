"""What learns: the codec, the average of its weights, and the optimisers."""

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from attncodec.config import QUALITY_STEPS, Config, Part, Phase
from attncodec.environment import has_bf16
from attncodec.images import RGB
from attncodec.metrics import rd_loss
from attncodec.model.channel import DEFAULT_ERROR_WEIGHT, Encoded, Noise, Rounding
from attncodec.model.codec import Codec
from attncodec.model.context import FloatPrior
from attncodec.model.levels import rd_lambda_at
from attncodec.model.prior import SKIP_LEVEL
from attncodec.team import ALONE, Team
from attncodec.training.checkpoint import AVERAGE, MODEL, OPTIMISER, Checkpoint, build_codec, load_weights
from attncodec.training.data import Crops
from attncodec.training.device import to_device
from attncodec.training.optim import (
    Optimisers,
    build_optimisers,
    load_state_tensors,
    set_found_inf,
    set_learning_rate,
    state_tensors,
)
from attncodec.training.replay import Replay

INITIALISATION_CROPS = 32
LEVEL_AND_NOISE = 1  # what tells their randomness from that of the crops
EVERYTHING = Phase(share=1.0)  # nothing is frozen
# What the names of the parameters of each part begin with.
PARTS: dict[Part, str] = {
    "analysis": "analysis.",
    "gains": "log2_gain",
    "hyper_analysis": "hyper_analysis.",
    "z_prior": "z_prior.",
    "context": "prior.",
    "synthesis": "synthesis.",
}
AVERAGE_WARMUP = 10  # the average follows closely at first: its decay at step s is at most (1 + s) / (10 + s)


@dataclass(frozen=True)
class Inputs:
    """All that a step depends on beside the state of what learns, on the device."""

    crops: Tensor  # (B, 3, H, W) uint8
    position: Tensor  # (B,) int64, the quality of each, in 1 / 64 of a level above the first
    rd_lambda: Tensor  # (B,) of each
    seeds: Tensor  # (B,) int64, of the noise of each
    lr: Tensor  # ()
    average_weight: Tensor  # () of the new weights in their average


@dataclass(frozen=True)
class StepResult:
    """What a step did, left on the device, so that nobody waits for it. Where its loss or gradient was not finite it
    was not taken, and nothing has moved."""

    figures: Tensor  # (3,) 1 where it was taken, the loss, the gradient's norm; of the whole batch, in every process
    samples: Tensor  # (B, 3) of this process: the quality level nearest to each crop's, from 0, its bpp and its MSE

    @property
    def taken(self) -> bool:
        return bool(self.figures[0])

    @property
    def loss(self) -> float:
        return float(self.figures[1])

    @property
    def gradient_norm(self) -> float:
        return float(self.figures[2])


def fetch(results: Sequence[StepResult]) -> list[StepResult]:
    """The same on the CPU: a GPU is waited for once, and not for every number."""
    figures = torch.stack([result.figures for result in results]).cpu()
    samples = torch.cat([result.samples for result in results]).cpu()
    parts = torch.split(samples, [len(result.samples) for result in results])
    return [StepResult(*pair) for pair in zip(figures, parts, strict=True)]


@dataclass
class Learner:
    """All that a checkpoint keeps, and the step that moves it."""

    config: Config
    device: torch.device
    codec: Codec
    averaged: Codec
    optimisers: Optimisers
    network: nn.Module  # the codec, in a team with its gradients averaged over the processes
    bf16: bool
    team: Team
    replay: Replay[Inputs, StepResult] | None = None  # on a GPU
    phase: Phase = EVERYTHING

    @classmethod
    def build(
        cls, config: Config, device: torch.device, team: Team = ALONE, say: Callable[[str], None] = print
    ) -> "Learner":
        """Weights from the seed; `initialise`, `begin_from` or `restore` must follow."""
        torch.manual_seed(config.train.seed)
        torch.backends.cudnn.benchmark = True  # crops have one shape
        torch.backends.cudnn.allow_tf32 = False  # what is not in bf16 needs all of float32: see blocks.full_precision
        codec = build_codec(config.model)
        codec.to(device).to(memory_format=torch.channels_last)
        averaged = copy.deepcopy(codec).requires_grad_(False)
        bf16 = config.train.precision == "auto" and has_bf16(device)
        if config.train.compile is True or (config.train.compile == "auto" and device.type == "cuda"):
            compile_networks(codec, device, say)
        optimisers = build_optimisers(codec, config.train.lr, bf16)
        learner = cls(config, device, codec, averaged, optimisers, in_team(codec, team), bf16, team)
        # The gradients of a team meet while they are made, and MS-SSIM copies its window to the GPU in every step.
        if device.type == "cuda" and team.size == 1 and not config.train.ms_ssim_share:
            learner.replay = Replay(learner._take, device, say)
        return learner

    def initialise(self, crops: Crops) -> None:
        """Before the first step: units and gains from the pictures."""

        def initialised() -> dict[str, Tensor]:
            self.codec.initialise(self.to_float(crops.first(INITIALISATION_CROPS)))
            return {name: tensor.cpu() for name, tensor in self.codec.state_dict().items()}

        weights = self.team.from_lead(initialised)  # and not found by each: sums differ from machine to machine
        for mine in (self.codec, self.averaged):
            mine.load_state_dict(weights)

    def begin_from(self, codec: Codec) -> None:
        """The weights of another codec of the same shape, in place of `initialise`."""
        for mine in (self.codec, self.averaged):
            mine.load_state_dict(codec.state_dict())

    def enter(self, number: int, before: int) -> int:
        """Learn as the phase of this number has it -> the number. Where the step before was in another one, weights
        become their averages if some are frozen from now on: the averages are what is sealed."""
        phase = self.config.train.phases[number]
        if number != before and phase.frozen:
            self.codec.load_state_dict(self.averaged.state_dict())
        if phase != self.phase:
            self.phase, frozen = phase, tuple(PARTS[part] for part in phase.frozen)
            for name, parameter in self.codec.named_parameters():
                parameter.requires_grad_(not name.startswith(frozen))
            self.network = in_team(self.codec, self.team)
            if self.replay:
                self.replay.forget()
        return number

    def step(
        self, step: int, lr: float, crops: Tensor, generation: int = 0, whole_batch: int | None = None
    ) -> StepResult:
        """One step on uint8 crops (B, 3, H, W): those of this process, of `whole_batch` (None: these are all). It
        depends on the seed, the step and the generation alone."""
        levels = self.config.model.rd_lambdas
        count = len(crops) if whole_batch is None else whole_batch
        positions, seeds = self._draw(step, generation, self.team.share(range(count)))
        weight = 1 - min(self.config.train.ema, (1 + step) / (AVERAGE_WARMUP + step))
        rd_lambda = [rd_lambda_at(levels, position) for position in positions]
        figures = (torch.tensor(given) for given in (positions, rd_lambda, seeds, lr, weight))
        inputs = Inputs(*(to_device(given, self.device) for given in (crops, *figures)))
        return self.replay(inputs) if self.replay else self._take(inputs, len(crops) / count)

    def _draw(self, step: int, generation: int, samples: Iterable[int]) -> tuple[list[int], list[int]]:
        """The quality of each sample, as a position, and the seed of its noise. What lies beyond the first and the last
        level, by half of one, counts as theirs: so all levels are drawn equally often."""
        top, half = QUALITY_STEPS * (len(self.config.model.rd_lambdas) - 1), QUALITY_STEPS // 2
        positions, seeds = [], []
        for sample in samples:
            rng = np.random.default_rng([self.config.train.seed, step, sample, generation, LEVEL_AND_NOISE])
            positions.append(min(max(int(rng.integers(-half, top + half)), 0), top))
            seeds.append(int(rng.integers(2**63)))
        return positions, seeds

    def _take(self, inputs: Inputs, share: float = 1.0) -> StepResult:
        """A step on what is this share of the whole batch."""
        options = self.config.train
        x, channel = self.to_float(inputs.crops), self._channel(inputs)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            x_hat = self.network(x, channel, inputs.position)
        result = rd_loss(x, x_hat, channel.bits, inputs.rd_lambda, options.ms_ssim_share)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        weighted = result.loss * share
        (weighted * self.team.size).backward()  # type: ignore[no-untyped-call]
        loss = weighted.detach()
        if self.team.size > 1:
            dist.all_reduce(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), options.clip)
        taken = torch.isfinite(norm) & torch.isfinite(loss)
        self._move(inputs.lr, inputs.average_weight, taken)
        level = torch.round(inputs.position / QUALITY_STEPS)
        samples = torch.stack([level, result.rate_bpp.detach(), result.mse_255.detach()], dim=1)
        return StepResult(torch.stack([taken.float(), loss, norm]), samples)

    def _channel(self, inputs: Inputs) -> Noise | Encoded:
        if self.phase.rounding == "nearest":
            return Noise(inputs.seeds)
        with torch.no_grad():
            rounding = self._rounding(self.codec, inputs.position, inputs.rd_lambda[:, None])
        return Encoded(SKIP_LEVEL, rounding)

    @staticmethod
    def _rounding(codec: Codec, position: Tensor, rd_lambda: Tensor | float) -> Rounding:
        """As an encoder rounds for which nothing was measured."""
        error_bits = DEFAULT_ERROR_WEIGHT * codec.error_bits(position, rd_lambda)
        return Rounding(error_bits.expand(-1, codec.config.latent_channels))

    def reconstruct(self, rgb: RGB, position: int) -> tuple[RGB, float]:
        """As `Codec.reconstruct`, with the averaged weights and the rounding of the phase: by it they are validated."""
        if self.phase.rounding == "nearest":
            return self.averaged.reconstruct(rgb, position)
        at = torch.tensor([position], device=self.device)
        rounding = self._rounding(self.averaged, at, rd_lambda_at(self.config.model.rd_lambdas, position))
        return self.averaged.reconstruct(rgb, position, SKIP_LEVEL, rounding)

    def _move(self, lr: Tensor, average_weight: Tensor, taken: Tensor) -> None:
        """The weights by their gradients, and the averaged weights after them; nothing where the step is not taken."""
        if self.device.type == "cpu":
            if not taken:
                return
        else:  # a GPU is not waited for: its kernels look at the flag
            average_weight = average_weight * taken
            set_found_inf(self.optimisers, (~taken).float())
        set_learning_rate(self.optimisers, lr)
        for optimiser in self.optimisers.values():
            optimiser.step()
        pairs = zip(self.averaged.parameters(), self.codec.parameters(), strict=True)
        learning = [(mean, parameter.detach()) for mean, parameter in pairs if parameter.requires_grad]
        averages, weights = map(list, zip(*learning, strict=True))
        if self.device.type == "cpu":
            torch._foreach_lerp_(averages, weights, float(average_weight))
            return
        torch._foreach_mul_(averages, 1 - average_weight)  # lerp takes no number that only the GPU knows
        torch._foreach_add_(averages, list(torch._foreach_mul(weights, average_weight)))

    def to_float(self, crops: Tensor) -> Tensor:
        """uint8 -> [0, 1] on the device, channels last."""
        return to_device(crops, self.device).contiguous(memory_format=torch.channels_last).float().div_(255)

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
        if self.replay:
            self.replay.forget()


def in_team(codec: Codec, team: Team) -> nn.Module:
    """The codec, in a team with its gradients averaged over the processes."""
    if team.size == 1:
        return codec
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch has another name for the last one
        return nn.parallel.DistributedDataParallel(codec, gradient_as_bucket_view=True, broadcast_buffers=False)


def compile_networks(codec: Codec, device: torch.device, say: Callable[[str], None]) -> None:
    """torch.compile of the networks, in place; where it does not work they stay as they are, which is said."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # a compiler is missing, most often, or too old: each backend raises its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        say(f"torch.compile does not work here, so training goes without it: {reason}")
        return
    torch._dynamo.config.suppress_errors = True  # a network that does not compile runs as it is; torch says which
    torch._dynamo.config.recompile_limit = 64  # that of one piece of code, which the context networks share
    assert isinstance(codec.prior, FloatPrior)
    context = codec.prior.networks
    # Not the hyper analysis: it pads by repeating edges, whose backward pass torch 2.14 does not compile.
    for network in (codec.analysis, codec.synthesis, context.hyper, *context.steps):
        network.compile(dynamic=False)
