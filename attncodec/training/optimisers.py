"""Muon for convolution weights, AdamW for everything else.

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

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_PAIRS = 2  # four steps, of Jordan's five; the last costs much, and changes the smallest singular values
MOMENTUM = 0.9
# A CPU uses its orthogonalised matrices for this many steps, because making them is a good part of a step.
ORTHOGONALISE_EVERY = 2
ADAMW_LR_MULTIPLIER = 3.0  # the learning rate of gains, biases and the prior of z, over that of the convolutions
ADAM_RMS = 0.2  # the usual root mean square of an Adam step, in learning rates


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Compute about U V^T of each matrix's singular value decomposition, by Newton-Schulz iterations.

    matrices: (K, rows, columns) -> same shape.

    Singular values from 0.5 % of the Frobenius norm up end between about 0.65 and 1.15, which is near enough (and why
    bf16 is); smaller ones stay smaller.

    Two steps at a time are taken on the Gram matrix, which is the smaller: x becomes p2 p1 x, with p1 = a + b g + c g g
    of g = x x^T, and p2 the same of p1 g p1. With more at a time, bf16 loses the small singular values.
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
    """Orthogonalise weights (out, in, k, k), taken as (out, k k in) matrices, each in memory of its own.

    Equal shapes go in one batch. Columns have the order that they have in memory, in channels_last, which changes
    nothing.
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
    """For weights of convolutions, (out, in, k, k), taken as (out, in k k) matrices.

    found_inf: as torch's fused optimisers take it from a GradScaler, () float on the device; where it is 1, a step
    moves nothing.

    reuse: for how many steps a matrix, once orthogonalised, is used; in each step they are made anew for every
    `reuse`th parameter. From one step to the next they change much (a cosine of 0.8), so that with four steps learning
    loses more than it gains in speed. Above 1 it is for devices that know a bad gradient before the step: found_inf
    stays None.
    """

    found_inf: Tensor | None = None

    def __init__(
        self, params: list[nn.Parameter], lr: float | Tensor, dtype: torch.dtype = torch.bfloat16, reuse: int = 1
    ) -> None:
        super().__init__(params, {"lr": lr})
        self.dtype, self.reuse = dtype, reuse

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; there is no closure."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:  # all that is its own is frozen
                continue
            updates = self._updates(parameters)
            for parameter, update in zip(parameters, updates, strict=True):
                size = group["lr"] * (ADAM_RMS * math.sqrt(max(parameter.shape[0], parameter[0].numel())))
                if self.found_inf is not None:
                    size = size * (1 - self.found_inf)
                parameter.addcmul_(update, torch.as_tensor(size), value=-1)  # in one pass over the memory

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load all but the matrices that another device had kept: they would be old when they are next used."""
        super().load_state_dict(state_dict)
        for state in self.state.values() if self.reuse == 1 else ():
            for kept in ("update", "turn"):
                state.pop(kept, None)

    def _updates(self, parameters: list[Tensor]) -> list[Tensor]:
        """Orthogonalise momenta: all of them, or those whose turn it is; the others are as they were last."""
        gradients, momenta = self._move_momenta(parameters)
        if self.reuse == 1:
            return orthogonalise_each(torch._foreach_lerp(gradients, momenta, MOMENTUM), self.dtype)
        due = [number for number, parameter in enumerate(parameters) if self._its_turn(parameter, number)]
        nesterov = [torch.lerp(gradients[number], momenta[number], MOMENTUM) for number in due]
        for number, update in zip(due, orthogonalise_each(nesterov, self.dtype), strict=True):
            self.state[parameters[number]]["update"] = update
        return [self.state[parameter]["update"] for parameter in parameters]

    def _its_turn(self, parameter: Tensor, number: int) -> bool:
        """Say whether the matrix of this parameter, one of many, is to be made anew; it is asked once a step."""
        state = self.state[parameter]
        state["turn"] = state.get("turn", torch.tensor(float(number))) + 1
        return "update" not in state or int(state["turn"]) % self.reuse == 0

    def _move_momenta(self, parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Move the momenta -> gradients and momenta."""
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


Optimisers = dict[str, torch.optim.Optimizer]


def build_optimisers(codec: nn.Module, lr: float, bf16: bool) -> Optimisers:
    """Build two optimisers whose parameters are disjoint and, together, all that learn.

    On a GPU the learning rate is a tensor of each, so that a captured step (replay.py) does not hold that of its
    capture.
    """
    learning = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in learning if parameter.dim() == 4]
    others = [parameter for parameter in learning if parameter.dim() != 4]
    device = learning[0].device
    on_gpu = device.type == "cuda"

    def rate() -> float | Tensor:
        return torch.tensor(lr, device=device) if on_gpu else lr

    adamw = {"params": others, "factor": ADAMW_LR_MULTIPLIER, "lr": rate()}
    return {
        "muon": Muon(matrices, rate(), torch.bfloat16 if bf16 else torch.float32, 1 if on_gpu else ORTHOGONALISE_EVERY),
        "adamw": torch.optim.AdamW([adamw], betas=(0.9, 0.95), weight_decay=0.0, fused=True, capturable=on_gpu),
    }


def set_found_inf(optimisers: Optimisers, found_inf: Tensor) -> None:
    """Say whether the next step shall move nothing, 0 or 1, which the device alone knows."""
    for optimiser in optimisers.values():
        optimiser.found_inf = found_inf  # type: ignore[attr-defined]


def set_learning_rate(optimisers: Optimisers, lr: Tensor) -> None:
    """Set the learning rate of the convolutions; other parameters have theirs by a factor."""
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            rate = lr * group.get("factor", 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(rate)
            else:
                group["lr"] = float(rate)


def state_tensors(optimisers: Optimisers) -> dict[str, Tensor]:
    """Return the state of all optimisers as tensors with flat names: muon.3.momentum, adamw.0.exp_avg, ..."""
    return {
        f"{name}.{number}.{key}": value
        for name, optimiser in optimisers.items()
        for number, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
    }


def load_state_tensors(optimisers: Optimisers, tensors: dict[str, Tensor]) -> None:
    """Load the state of all optimisers: the inverse of `state_tensors`."""
    for name, optimiser in optimisers.items():
        states: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for flat, tensor in tensors.items():
            owner, number, key = flat.split(".")
            if owner == name:
                states[int(number)][key] = tensor
        optimiser.load_state_dict({"state": dict(states), "param_groups": optimiser.state_dict()["param_groups"]})
