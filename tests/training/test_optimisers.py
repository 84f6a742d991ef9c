from typing import Any

import pytest
import torch
from conftest import make_codec
from torch import nn

from attncodec.config import TrainConfig
from attncodec.errors import ConfigError
from attncodec.training.optimisers import (
    OPTIMISERS,
    build_optimisers,
    can_skip_on_gpu,
    load_state_tensors,
    muon,
    set_found_inf,
    state_tensors,
)
from attncodec.training.optimisers.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(2, 8, 30), (1, 30, 8), (3, 16, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalising_keeps_the_directions_and_evens_out_the_sizes(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalise(matrices, dtype)
    sizes = torch.linalg.svdvals(found)
    assert sizes.min() > 0.4 and sizes.max() < 1.4
    assert torch.nn.functional.cosine_similarity(found.flatten(1), (u @ vh).flatten(1)).min() > 0.95


def test_muon_agrees_with_torch_s_own_on_a_matrix() -> None:
    start = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()[..., None, None]), nn.Parameter(start.clone())
    ours_too: dict[str, Any] = {
        "momentum": muon.MOMENTUM,
        "nesterov": True,
        "ns_steps": 2 * muon.NEWTON_SCHULZ_PAIRS,
    }
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw", **ours_too)
    mine = Muon([ours], lr=0.01)
    for step in range(5):
        gradient = torch.randn(12, 20, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient[..., None, None].clone(), gradient.clone()
        mine.step()
        reference.step()
    assert torch.allclose(ours[..., 0, 0], theirs, atol=1e-3)  # both iterate in bf16
    assert (theirs - start).abs().mean() > 2e-3


def test_a_step_told_of_on_the_device_that_its_gradient_is_bad_moves_nothing() -> None:
    codec = make_codec()
    optimisers = build_optimisers(codec, TrainConfig(lr=1e-2), bf16=False)
    matrices = optimisers["muon"]
    assert isinstance(matrices, Muon)
    matrices.reuse = 1  # this is as on a GPU; a CPU looks at the gradient first, and takes no step

    def step(gradient: float, found_inf: float) -> dict[str, torch.Tensor]:
        for number, parameter in enumerate(codec.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.grad = noise * gradient
        set_found_inf(optimisers, torch.tensor(found_inf))
        for optimiser in optimisers.values():
            optimiser.step()
        state = {f"optimiser.{name}": tensor for name, tensor in state_tensors(optimisers).items()}
        return {name: tensor.clone() for name, tensor in {**codec.state_dict(), **state}.items()}

    before = step(1.0, 0.0)
    after = step(float("nan"), 1.0)
    assert all(torch.equal(before[name], after[name]) for name in before)
    moved = step(-1.0, 0.0)
    assert all(torch.isfinite(tensor).all() for tensor in moved.values())
    assert not torch.equal(moved["analysis.head.weight"], before["analysis.head.weight"])


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_parameter_has_one_optimiser(name: str) -> None:
    codec = make_codec()
    built = build_optimisers(codec, TrainConfig(optimiser=name), bf16=True)
    owned = [p for optimiser in built.values() for group in optimiser.param_groups for p in group["params"]]
    assert len(owned) == len({id(p) for p in owned})
    assert {id(p) for p in owned} == {id(p) for p in codec.parameters()}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_of_the_package_can_skip_a_step_on_a_gpu(name: str) -> None:
    assert can_skip_on_gpu(build_optimisers(make_codec(), TrainConfig(optimiser=name), bf16=False))


def test_an_optimiser_that_does_not_look_at_found_inf_cannot_skip_on_a_gpu() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    assert not can_skip_on_gpu({"sgd": torch.optim.SGD([parameter], 0.1)})


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"optimiser": "mun"}, "train.optimiser: there is no 'mun'", "did you mean 'muon'?"),
        ({"optimiser": "adamw", "optimiser_options": {"beta": 0.5}}, "train.optimiser_options.beta", "beta1, beta2"),
        ({"optimiser": "adamw", "optimiser_options": {"beta1": 2}}, "train.optimiser_options.beta1", "it was 2"),
        ({"optimiser_options": {"beta1": 0.5}}, "train.optimiser_options.beta1", "none"),
    ],
)
def test_unknown_optimisers_and_options_are_refused(options: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_optimisers(make_codec(), TrainConfig(**options), bf16=False)
    assert hint in caught.value.hint


def test_the_options_of_adamw_reach_it() -> None:
    config = TrainConfig(optimiser="adamw", optimiser_options={"beta2": 0.8, "weight_decay": 0.1})
    group = build_optimisers(make_codec(), config, bf16=False)["adamw"].param_groups[0]
    assert group["betas"] == (0.9, 0.8) and group["weight_decay"] == 0.1


def state_after_a_step(codec: nn.Module) -> dict[str, torch.Tensor]:
    optimisers = build_optimisers(codec, TrainConfig(lr=1e-3), bf16=True)
    for parameter in codec.parameters():
        parameter.grad = torch.randn_like(parameter)
    for optimiser in optimisers.values():
        optimiser.step()
    return state_tensors(optimisers)


def test_the_state_survives_as_flat_tensors() -> None:
    codec = make_codec()
    saved = state_after_a_step(codec)
    assert all(isinstance(tensor, torch.Tensor) for tensor in saved.values())
    other = build_optimisers(codec, TrainConfig(lr=1e-3), bf16=True)
    load_state_tensors(other, saved)
    restored = state_tensors(other)
    assert saved.keys() == restored.keys() and all(torch.equal(saved[k], restored[k]) for k in saved)


def test_a_matrix_is_used_for_four_steps_and_a_quarter_are_made_anew_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counting(matrices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        made.append(len(matrices))
        return orthogonalise(matrices, dtype)

    def run(reuse: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(6, 8, 1, 1)) for _ in range(8)]
        optimiser, moves = Muon(parameters, lr=0.01, reuse=reuse), []
        for _ in range(9):
            made.clear()
            before = [parameter.detach().clone() for parameter in parameters]
            for parameter in parameters:
                parameter.grad = torch.randn(6, 8, 1, 1)
            optimiser.step()
            moves.append(torch.stack([a - b for a, b in zip(before, parameters, strict=True)]).detach())
            counts.append(sum(made))
        return moves

    monkeypatch.setattr(muon, "orthogonalise", counting)
    counts: list[int] = []
    reused = run(4)
    assert counts == [8, *[2] * 8]
    anew = run(1)
    assert torch.equal(reused[0], anew[0]) and counts[9:] == [8] * 9
    fresh = [torch.isclose(a, b, atol=1e-6).flatten(1).all(1).sum() for a, b in zip(reused, anew, strict=True)]
    assert fresh == [8, *[2] * 8]
    assert all(float(move.abs().flatten(1).max(1).values.min()) > 1e-4 for move in reused)


def test_matrices_that_a_cpu_kept_are_not_used_again_after_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = make_codec()
    saved = state_after_a_step(codec)
    monkeypatch.setattr(muon, "ORTHOGONALISE_EVERY", 1)  # this is as on a GPU
    elsewhere = build_optimisers(codec, TrainConfig(lr=1e-3), bf16=True)
    load_state_tensors(elsewhere, saved)
    restored = state_tensors(elsewhere)
    assert {name for name in saved if name.rsplit(".")[-1] in ("update", "turn")} == saved.keys() - restored.keys()
    assert any(name.endswith(".update") for name in saved)


class Counting(torch.optim.SGD):
    """Keep a number in the state, which a checkpoint could not hold."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["steps"] = self.state[parameter].get("steps", 0) + 1


class WithoutRate(torch.optim.Optimizer):
    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 0.1)


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda given: {"sgd": sgd(given[:1])}, "does not have each of the 2 parameters once: 1 are left out, 0"),
        (lambda given: {"a": sgd(given), "b": sgd(given[:1])}, "0 are left out, 1 are there several times"),
        (lambda given: {"sgd": sgd([*given, nn.Parameter(torch.zeros(1))])}, "and 1 were not given"),
        (lambda given: {}, "does not have each of the 2 parameters once"),
        (lambda given: {"sgd.1": sgd(given)}, "has the name 'sgd.1', which is not a string without dots"),
        (lambda given: {1: sgd(given)}, "has the name 1, which"),
        (sgd, "is built as a SGD, not as a dict of optimisers by name"),
        (lambda given: [sgd(given)], "is built as a list, not"),
        (lambda given: {"sgd": None}, "is built as a dict, not"),
        (lambda given: None, "is built as a NoneType, not"),
        (lambda given: given[7], "raises IndexError"),
        (lambda given: {"none": WithoutRate(given)}, "has parameters without a learning rate, lr"),
        (lambda given: {"sgd": Counting(given, 0.1)}, "keeps sgd.0.steps as a int, which a run cannot resume from"),
        (lambda given: {"lbfgs": torch.optim.LBFGS(given)}, "raises TypeError: .*closure"),
    ],
)
def test_a_builder_that_breaks_its_contract_is_named(monkeypatch: pytest.MonkeyPatch, build: Any, what: str) -> None:
    monkeypatch.setitem(OPTIMISERS, "mine", lambda given, config, bf16: build(given))
    with pytest.raises(ConfigError, match=f"^the optimiser 'mine' .*{what}"):
        build_optimisers(nn.Conv2d(1, 1, 1), TrainConfig(optimiser="mine"), bf16=False)


def test_building_optimisers_changes_no_parameter_and_no_random_number() -> None:
    codec = make_codec()
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    state = torch.get_rng_state()
    optimisers = build_optimisers(codec, TrainConfig(), bf16=False)
    assert torch.equal(torch.get_rng_state(), state) and not state_tensors(optimisers)
    assert all(torch.equal(tensor, before[name]) for name, tensor in codec.state_dict().items())
