"""The optimisers: a registry of what builds them, and what training asks of them.

A builder takes the parameters that learn, train.* of the configuration, and whether training runs in bfloat16. It
returns optimisers by name, whose parameters are disjoint and, together, all that learn. They keep their state in
tensors, so that a run can be resumed. On a GPU an optimiser that looks at `found_inf`, as torch's fused optimisers do
for a GradScaler, can skip a step without anyone waiting for the GPU, and its steps can be replayed as a CUDA graph.
"""

from collections import Counter, defaultdict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attncodec.config import TrainConfig
from attncodec.registry import BrokenContractError, contract, look_up
from attncodec.training.optimisers.adamw import build_adamw
from attncodec.training.optimisers.muon import build_muon

Optimisers = dict[str, torch.optim.Optimizer]
Builder = Callable[[list[nn.Parameter], TrainConfig, bool], Optimisers]

OPTIMISERS: dict[str, Builder] = {
    "muon": build_muon,
    "adamw": build_adamw,
}


def build_optimisers(codec: nn.Module, config: TrainConfig, bf16: bool) -> Optimisers:
    """Build the optimisers of a codec.

    Raises ConfigError for an unknown name, for options that there are not, and for a builder that breaks its contract.
    """
    learning = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    device = learning[0].device
    build = look_up(OPTIMISERS, config.optimiser, "train.optimiser")
    with contract(f"the optimiser {config.optimiser!r}"):
        trial = [nn.Parameter(torch.zeros(shape, device=device)) for shape in ((1, 1, 1, 1), (1,))]
        _check_step(_checked(build(trial, config, bf16), trial), trial)
        optimisers = _checked(build(learning, config, bf16), learning)
    if device.type == "cuda" and can_skip_on_gpu(optimisers):
        # A tensor, so that a captured step (replay.py) does not hold the learning rate of its capture.
        for group in (group for optimiser in optimisers.values() for group in optimiser.param_groups):
            group["lr"] = torch.tensor(config.lr, device=device)
    return optimisers


def _checked(optimisers: object, parameters: list[nn.Parameter]) -> Optimisers:
    """Return what a builder returns. Raises BrokenContractError if this is not what it should be."""
    if not isinstance(optimisers, dict) or not all(isinstance(o, torch.optim.Optimizer) for o in optimisers.values()):
        raise BrokenContractError(f"is built as a {type(optimisers).__name__}, not as a dict of optimisers by name")
    for name in optimisers:
        if not isinstance(name, str) or "." in name:
            raise BrokenContractError(f"has the name {name!r}, which is not a string without dots")
    groups = [group for optimiser in optimisers.values() for group in optimiser.param_groups]
    if not all("lr" in group for group in groups):
        raise BrokenContractError("has parameters without a learning rate, lr")
    owners = Counter(id(parameter) for group in groups for parameter in group["params"])
    given = {id(parameter) for parameter in parameters}
    if owners != dict.fromkeys(given, 1):
        twice = sum(count > 1 for count in owners.values())
        raise BrokenContractError(
            f"does not have each of the {len(given)} parameters once: {len(given - owners.keys())} are left out, "
            f"{twice} are there several times, and {len(owners.keys() - given)} were not given"
        )
    return optimisers


def _check_step(optimisers: Optimisers, parameters: list[nn.Parameter]) -> None:
    """Take a step. Raises BrokenContractError if a checkpoint could not keep the state that it leaves."""
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    for optimiser in optimisers.values():
        optimiser.step()
    for name, value in state_tensors(optimisers).items():
        if not isinstance(value, Tensor) or name.count(".") != 2:
            raise BrokenContractError(f"keeps {name} as a {type(value).__name__}, which a run cannot resume from")


def can_skip_on_gpu(optimisers: Optimisers) -> bool:
    """Say whether all of them look at `found_inf`; torch marks such optimisers for its GradScaler."""
    return all(getattr(optimiser, "_step_supports_amp_scaling", False) for optimiser in optimisers.values())


def set_found_inf(optimisers: Optimisers, found_inf: Tensor) -> None:
    """Set whether the next step changes nothing: `found_inf` on the device is 1 if so, and 0 if not."""
    for optimiser in optimisers.values():
        optimiser.found_inf = found_inf  # type: ignore[attr-defined]


def set_learning_rate(optimisers: Optimisers, lr: Tensor) -> None:
    """Set the learning rate of the convolutions; that of other parameters is a multiple of it."""
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
