"""Muon optimises convolution weights, and AdamW everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest
(semi-)orthogonal one, so that all directions are learnt equally fast. Its step is scaled to the size of Adam's (Liu et
al. 2025, arXiv 2502.16982), so one learning rate serves both.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attncodec.config import Section, TrainConfig
from attncodec.registry import read_options

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
# Two pairs are four of Jordan's five steps; the fifth costs much, and changes the smallest singular values.
NEWTON_SCHULZ_PAIRS = 2
MOMENTUM = 0.9
# A CPU uses an orthogonalised matrix for this many steps, because orthogonalisation takes a large part of a step.
ORTHOGONALISE_EVERY = 2
ADAMW_LR_MULTIPLIER = 3.0  # Gains, biases and the prior of z learn at this multiple of the convolutions' rate.
ADAM_RMS = 0.2  # A step of Adam usually has this root mean square, in units of the learning rate.


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Approximate U V^T of each matrix's singular value decomposition by Newton-Schulz iterations.

    `matrices` is (K, rows, columns), and the result has the same shape.

    Singular values from 0.5 % of the Frobenius norm up end between about 0.65 and 1.15, which is accurate enough, so
    bf16 is accurate enough, too. Smaller ones stay smaller.

    Two steps at a time are taken on the Gram matrix, which is smaller: x becomes p2 p1 x, where p1 = a + b g + c g g
    with g = x x^T, and p2 is the same polynomial of p1 g p1. With more steps at a time, bf16 loses the small singular
    values.
    """
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_PAIRS):
        gram = x @ x.mT
        first = _polynomial(gram)
        x = (_polynomial(first @ gram @ first) @ first) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def _polynomial(gram: Tensor) -> Tensor:
    """Compute a + b g + c g g."""
    a, b, c = NEWTON_SCHULZ
    result = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal(dim1=1, dim2=2).add_(a)
    return result


def orthogonalise_each(weights: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Orthogonalise weights (out, in, k, k) as (out, k k in) matrices, and return each in memory of its own.

    Equal shapes are orthogonalised in one batch. Columns have the order that they have in memory in channels_last; the
    result does not depend on it.
    """
    matrices = [weight.permute(0, 2, 3, 1).flatten(1).to(dtype) for weight in weights]
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    for number, matrix in enumerate(matrices):
        by_shape[matrix.shape].append(number)
    found: dict[int, Tensor] = {}
    for numbers in by_shape.values():
        batch = orthogonalise(torch.stack([matrices[number] for number in numbers]), dtype)
        for number, matrix in zip(numbers, batch, strict=True):
            like = weights[number].permute(0, 2, 3, 1)
            found[number] = matrix.to(like.dtype, copy=True).view(like.shape).permute(0, 3, 1, 2)
    return [found[number] for number in range(len(weights))]


class Muon(torch.optim.Optimizer):
    """Optimises weights of convolutions (out, in, k, k), which it takes as (out, in k k) matrices.

    `found_inf` is a () float on the device, as torch's fused optimisers take it from a GradScaler. If it is 1, a step
    changes nothing.

    `reuse` is the number of steps that an orthogonalised matrix is used for. Each step computes the matrix of every
    `reuse`th parameter again. Matrices change much from one step to the next (a cosine of 0.8), so that with four steps
    learning loses more than it gains in speed. A `reuse` above 1 is for devices that know of a bad gradient before the
    step, where found_inf stays None.
    """

    found_inf: Tensor | None = None
    _step_supports_amp_scaling = True  # This is torch's mark of an optimiser that looks at found_inf.

    def __init__(
        self, params: list[nn.Parameter], lr: float | Tensor, dtype: torch.dtype = torch.bfloat16, reuse: int = 1
    ) -> None:
        super().__init__(params, {"lr": lr})
        self.dtype, self.reuse = dtype, reuse

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; `closure` is ignored."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:  # All parameters of the group are frozen.
                continue
            updates = self._updates(parameters)
            for parameter, update in zip(parameters, updates, strict=True):
                size = group["lr"] * (ADAM_RMS * math.sqrt(max(parameter.shape[0], parameter[0].numel())))
                if self.found_inf is not None:
                    size = size * (1 - self.found_inf)
                parameter.addcmul_(update, torch.as_tensor(size), value=-1)  # This passes over the memory once.

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state; without reuse, drop the matrices that another device kept.

        These matrices would be outdated when they are next used.
        """
        super().load_state_dict(state_dict)
        for state in self.state.values() if self.reuse == 1 else ():
            for kept in ("update", "turn"):
                state.pop(kept, None)

    def _updates(self, parameters: list[Tensor]) -> list[Tensor]:
        """Orthogonalise all momenta, or those whose turn it is; the others keep the matrices that they have."""
        gradients, momenta = self._move_momenta(parameters)
        if self.reuse == 1:
            return orthogonalise_each(torch._foreach_lerp(gradients, momenta, MOMENTUM), self.dtype)
        due = [number for number, parameter in enumerate(parameters) if self._its_turn(parameter, number)]
        nesterov = [torch.lerp(gradients[number], momenta[number], MOMENTUM) for number in due]
        for number, update in zip(due, orthogonalise_each(nesterov, self.dtype), strict=True):
            self.state[parameters[number]]["update"] = update
        return [self.state[parameter]["update"] for parameter in parameters]

    def _its_turn(self, parameter: Tensor, number: int) -> bool:
        """Return whether to orthogonalise the parameter of this number again; call this once in each step."""
        state = self.state[parameter]
        state["turn"] = state.get("turn", torch.tensor(float(number))) + 1
        return "update" not in state or int(state["turn"]) % self.reuse == 0

    def _move_momenta(self, parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Update the momenta, and return the gradients and the momenta."""
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta: list[Tensor] = [self.state[parameter]["momentum"] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.found_inf is not None:
            bad = self.found_inf > 0
            gradients = [torch.where(bad, *pair) for pair in zip(momenta, gradients, strict=True)]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        return gradients, momenta


def build_muon(parameters: list[nn.Parameter], config: TrainConfig, bf16: bool) -> dict[str, torch.optim.Optimizer]:
    """Build Muon for the weights of convolutions, and AdamW for all other parameters."""
    read_options(Section, config.optimiser_options, "train.optimiser_options")  # there are none
    matrices = [parameter for parameter in parameters if parameter.dim() == 4]
    others = [parameter for parameter in parameters if parameter.dim() != 4]
    on_gpu = parameters[0].device.type == "cuda"
    dtype, reuse = torch.bfloat16 if bf16 else torch.float32, 1 if on_gpu else ORTHOGONALISE_EVERY
    adamw = {"params": others, "factor": ADAMW_LR_MULTIPLIER}
    return {
        "muon": Muon(matrices, config.lr, dtype, reuse),
        "adamw": torch.optim.AdamW(
            [adamw], lr=config.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True, capturable=on_gpu
        ),
    }
