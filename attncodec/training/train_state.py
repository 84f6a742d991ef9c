"""The training state is the codec, the average of its weights, and the optimisers."""

import copy
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from attncodec.coding.model_file import GAIN_Z, STORED_NAMES
from attncodec.config import Config, Part, Phase
from attncodec.device import to_device
from attncodec.distributed import SINGLE_PROCESS, Distributed
from attncodec.environment import has_bf16
from attncodec.errors import CheckpointError
from attncodec.metrics.rd_loss import rd_loss
from attncodec.networks.bottleneck import DEFAULT_ERROR_WEIGHT, EncoderRoundingBottleneck, NoiseBottleneck, Rounding
from attncodec.networks.hyperprior import HyperpriorCodec, build_codec
from attncodec.networks.initialisation import INITIALISATIONS
from attncodec.networks.priors import SKIP_SCALE_INDEX
from attncodec.pictures import RGB
from attncodec.quality import draw_index, nearest_level, rd_lambda_at
from attncodec.registry import look_up
from attncodec.training.checkpoint import AVERAGE, MODEL, OPTIMISER, Checkpoint
from attncodec.training.compilation import compile_networks
from attncodec.training.data import Crops
from attncodec.training.optimisers import (
    Optimisers,
    build_optimisers,
    can_skip_on_gpu,
    load_state_tensors,
    set_found_inf,
    set_learning_rate,
    state_tensors,
)
from attncodec.training.replay import Replay
from attncodec.training.step_result import StepResult

INITIALISATION_CROPS = 32
LEVEL_AND_NOISE = 1  # This keeps the random numbers of level and noise apart from those of crops.
EVERYTHING = Phase(share=1.0)  # In this phase nothing is frozen.
# The names of the parameters of each part begin with these.
PARTS: dict[Part, str] = {
    "analysis": "analysis.",
    "gains": "log2_gain",
    "hyper_analysis": "hyper_analysis.",
    "z_prior": "z_prior.",
    "context": "prior.",
    "synthesis": "synthesis.",
}
OLD_DENSITY = "z_prior.bottleneck."
AVERAGE_WARMUP = 10  # The average follows closely at first: its decay at step s is at most (1 + s) / (10 + s).


@dataclass(frozen=True)
class Inputs:
    """Holds everything that a step depends on besides the training state, on the device."""

    crops: Tensor  # (B, 3, H, W) uint8
    quality_index: Tensor  # (B,) int64, one for each crop
    rd_lambda: Tensor  # (B,), one for each crop
    seeds: Tensor  # (B,) int64; they seed the noise of each crop.
    lr: Tensor  # ()
    average_weight: Tensor  # (); the new weights have this weight in their average.


@dataclass
class TrainState:
    """Holds everything that a checkpoint keeps, and takes the training steps."""

    config: Config
    device: torch.device
    codec: HyperpriorCodec
    averaged: HyperpriorCodec
    optimisers: Optimisers
    network: nn.Module  # This is the codec; a process group averages its gradients over the processes.
    bf16: bool
    distributed: Distributed
    replay: Replay[Inputs, StepResult] | None = None  # Only a GPU replays steps.
    phase: Phase = EVERYTHING

    @classmethod
    def build(cls, config: Config, device: torch.device, distributed: Distributed = SINGLE_PROCESS) -> "TrainState":
        """Build the training state, with weights from the seed; call `initialise`, `begin_from` or `restore` next."""
        torch.manual_seed(config.train.seed)
        torch.backends.cudnn.benchmark = True  # Crops have one shape.
        with warnings.catch_warnings():  # torch 2.9 warns of this name, and fails where it and its new one are mixed.
            warnings.simplefilter("ignore", UserWarning)
            torch.backends.cudnn.allow_tf32 = False  # What is not in bf16 needs full float32: blocks.full_precision.
        codec = build_codec(config.model)
        codec.to(device).to(memory_format=torch.channels_last)
        averaged = copy.deepcopy(codec).requires_grad_(False)
        bf16 = config.train.precision == "auto" and has_bf16(device)
        if config.train.compile is True or (config.train.compile == "auto" and device.type == "cuda"):
            compile_networks(codec, device)
        optimisers = build_optimisers(codec, config.train, bf16)
        state = cls(
            config, device, codec, averaged, optimisers, in_process_group(codec, distributed), bf16, distributed
        )
        # A step is not captured if it averages the gradients of several processes, if it uses MS-SSIM, which copies its
        # window to the GPU in each step, or if an optimiser has to wait for the GPU.
        captured = device.type == "cuda" and distributed.size == 1 and not config.train.ms_ssim_share
        if captured and can_skip_on_gpu(optimisers):
            state.replay = Replay(state._train_step, device)
        return state

    def initialise(self, crops: Crops) -> None:
        """Set standard deviations and gains from crops of the training pictures, before the first step."""
        start = look_up(INITIALISATIONS, self.config.train.initialisation, "train.initialisation")

        def initialised() -> dict[str, Tensor]:
            start(self.codec, self.to_float(crops.first(INITIALISATION_CROPS)))
            return {name: tensor.cpu() for name, tensor in self.codec.state_dict().items()}

        # Only rank 0 computes them, because sums differ from machine to machine.
        weights = self.distributed.run_on_rank0(initialised)
        for mine in (self.codec, self.averaged):
            mine.load_state_dict(weights)

    def begin_from(self, codec: HyperpriorCodec) -> None:
        """Take the weights of another codec of the same shape, in place of `initialise`."""
        for mine in (self.codec, self.averaged):
            mine.load_state_dict(codec.state_dict())

    def enter(self, number: int, before: int) -> int:
        """Train as the phase of this number says from now on, and return the number.

        `before` is the number of the last step's phase. If it is another one and some parts are frozen from now on, the
        weights become their averages, because the averages are sealed.
        """
        phase = self.config.train.phases[number]
        if number != before and phase.frozen:
            self.codec.load_state_dict(self.averaged.state_dict())
        if phase != self.phase:
            self.phase, frozen = phase, tuple(PARTS[part] for part in phase.frozen)
            for name, parameter in self.codec.named_parameters():
                parameter.requires_grad_(not name.startswith(frozen))
            self.network = in_process_group(self.codec, self.distributed)
            if self.replay:
                self.replay.forget()
        return number

    def step(
        self, step: int, lr: float, crops: Tensor, rollback_count: int = 0, whole_batch: int | None = None
    ) -> StepResult:
        """Take one step on uint8 crops (B, 3, H, W).

        They are this process's share of a batch of `whole_batch` crops, or the whole batch if that is None. What is
        random depends only on the seed, the step and the rollback count.
        """
        levels = self.config.model.rd_lambdas
        count = len(crops) if whole_batch is None else whole_batch
        quality_indices, seeds = self._draw(step, rollback_count, self.distributed.shard(range(count)))
        weight = 1 - min(self.config.train.ema, (1 + step) / (AVERAGE_WARMUP + step))
        rd_lambda = [rd_lambda_at(levels, quality_index) for quality_index in quality_indices]
        figures = (torch.tensor(given) for given in (quality_indices, rd_lambda, seeds, lr, weight))
        inputs = Inputs(*(to_device(given, self.device) for given in (crops, *figures)))
        return self.replay(inputs) if self.replay else self._train_step(inputs, len(crops) / count)

    def _draw(self, step: int, rollback_count: int, samples: Iterable[int]) -> tuple[list[int], list[int]]:
        """Draw the quality index of each sample, and the seed of its noise."""
        quality_indices, seeds = [], []
        for sample in samples:
            rng = np.random.default_rng([self.config.train.seed, step, sample, rollback_count, LEVEL_AND_NOISE])
            quality_indices.append(draw_index(rng, len(self.config.model.rd_lambdas)))
            seeds.append(int(rng.integers(2**63)))
        return quality_indices, seeds

    def _train_step(self, inputs: Inputs, share: float = 1.0) -> StepResult:
        """Take one step on inputs that are this share of the whole batch."""
        options = self.config.train
        x, bottleneck = self.to_float(inputs.crops), self._bottleneck(inputs)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            x_hat = self.network(x, bottleneck, inputs.quality_index)
        result = rd_loss(x, x_hat, bottleneck.bits, inputs.rd_lambda, options.ms_ssim_share)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        weighted = result.loss * share
        (weighted * self.distributed.size).backward()  # type: ignore[no-untyped-call]
        loss = weighted.detach()
        if self.distributed.size > 1:
            dist.all_reduce(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), options.clip)
        taken = torch.isfinite(norm) & torch.isfinite(loss)
        self._apply_gradients(inputs.lr, inputs.average_weight, taken)
        level = nearest_level(inputs.quality_index).float()
        samples = torch.stack([level, result.rate_bpp.detach(), result.mse_255.detach()], dim=1)
        return StepResult(torch.stack([taken.float(), loss, norm]), samples)

    def _bottleneck(self, inputs: Inputs) -> NoiseBottleneck | EncoderRoundingBottleneck:
        if self.phase.rounding == "nearest":
            return NoiseBottleneck(inputs.seeds)
        with torch.no_grad():
            rounding = self._rounding(self.codec, inputs.quality_index, inputs.rd_lambda[:, None])
        return EncoderRoundingBottleneck(SKIP_SCALE_INDEX, rounding)

    @staticmethod
    def _rounding(codec: HyperpriorCodec, quality_index: Tensor, rd_lambda: Tensor | float) -> Rounding:
        """Return the rounding of an encoder for which nothing was measured."""
        error_bits = DEFAULT_ERROR_WEIGHT * codec.error_bits(quality_index, rd_lambda)
        return Rounding(error_bits.expand(-1, codec.config.latent_channels))

    def reconstruct(self, rgb: RGB, quality_index: int) -> tuple[RGB, float]:
        """Call `HyperpriorCodec.reconstruct` with the averaged weights and the rounding of the phase.

        Validation uses this.
        """
        if self.phase.rounding == "nearest":
            return self.averaged.reconstruct(rgb, quality_index)
        at = torch.tensor([quality_index], device=self.device)
        rounding = self._rounding(self.averaged, at, rd_lambda_at(self.config.model.rd_lambdas, quality_index))
        return self.averaged.reconstruct(rgb, quality_index, SKIP_SCALE_INDEX, rounding)

    def _apply_gradients(self, lr: Tensor, average_weight: Tensor, taken: Tensor) -> None:
        """Update the weights by their gradients, and then the averaged weights, if the step is taken."""
        if self.device.type == "cpu" or not can_skip_on_gpu(self.optimisers):
            if not taken:
                return
        else:  # The GPU's kernels read the flag, so that the CPU does not wait for it.
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
        torch._foreach_mul_(averages, 1 - average_weight)  # Lerp takes no number that only the GPU knows.
        torch._foreach_add_(averages, list(torch._foreach_mul(weights, average_weight)))

    def to_float(self, crops: Tensor) -> Tensor:
        """Turn uint8 crops (B, 3, H, W) into floats in [0, 1] on the device, channels last."""
        return to_device(crops, self.device).contiguous(memory_format=torch.channels_last).float().div_(255)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that are needed to continue."""
        return {
            **{MODEL + name: tensor for name, tensor in self.codec.state_dict().items()},
            **{AVERAGE + name: tensor for name, tensor in self.averaged.state_dict().items()},
            **{OPTIMISER + name: tensor for name, tensor in state_tensors(self.optimisers).items()},
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint: the inverse of `tensors`. Raises CheckpointError if it does not fit."""
        load_weights(self.codec, checkpoint.part(MODEL))
        load_weights(self.averaged, checkpoint.part(AVERAGE))
        load_state_tensors(self.optimisers, checkpoint.part(OPTIMISER))
        if self.replay:
            self.replay.forget()


def in_process_group(codec: HyperpriorCodec, distributed: Distributed) -> nn.Module:
    """Wrap a codec so that its gradients are averaged over the processes, if there are several."""
    if distributed.size == 1:
        return codec
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Newer torch has another name for the last argument.
        return nn.parallel.DistributedDataParallel(codec, gradient_as_bucket_view=True, broadcast_buffers=False)


def load_weights(codec: HyperpriorCodec, weights: dict[str, Tensor]) -> None:
    """Load the weights of a checkpoint; gains of z, which older checkpoints lack, then stay as they are.

    Raises CheckpointError if names or shapes do not fit.
    """
    try:
        codec.load_state_dict({GAIN_Z: codec.log2_gain_z, **_with_names_of_today(weights)})
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the checkpoint does not fit its configuration: {first}") from None


def _with_names_of_today(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of an older checkpoint, whose density of z was CompressAI's, and drop the buffers of that."""
    names, found = {stored: name for name, stored in STORED_NAMES.items()}, {}
    for name, tensor in weights.items():
        density = name.removeprefix(OLD_DENSITY)
        if density == name:
            found[names.get(name, name)] = tensor
        elif density.split(".")[0] in ("matrices", "biases", "factors"):
            found[f"z_prior.density.{density}"] = tensor
    return found
