from typing import Any

import pytest
import torch
from test_trainer import CPU, changed

from attncodec.config import Config
from attncodec.errors import CheckpointError
from attncodec.training.step_result import fetch
from attncodec.training.train_state import OLD_DENSITY, TrainState, load_weights


def crops(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_quality_and_noise_of_a_sample_do_not_depend_on_the_others(quick_config: Config) -> None:
    state = TrainState.build(quick_config, CPU)
    quality_indices, seeds = state._draw(5, 0, range(4))
    assert state._draw(5, 0, [2]) == ([quality_indices[2]], [seeds[2]])
    others = [state._draw(6, 0, [2])[1][0], state._draw(5, 1, [2])[1][0]]
    assert len({*seeds, *others}) == 6


def test_results_are_fetched_together_and_stay_what_they_were(quick_config: Config) -> None:
    state = TrainState.build(quick_config, CPU)
    results = [state.step(step, 1e-3, crops(count)) for step, count in enumerate([2, 3, 1])]
    fetched = fetch(results)
    assert [result.loss for result in fetched] == [result.loss for result in results]
    assert all(torch.equal(one.samples, other.samples) for one, other in zip(fetched, results, strict=True))
    assert [len(result.samples) for result in fetched] == [2, 3, 1] and all(result.taken for result in fetched)


def test_float32_is_kept_to_where_it_is_asked_for(quick_config: Config) -> None:
    state = TrainState.build(changed(quick_config, precision="float32"), CPU)
    dtypes = set()
    state.codec.synthesis.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))
    state.codec.analysis.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))
    state.step(0, 1e-3, crops())
    assert dtypes == {torch.float32} and not state.bf16


def test_where_nothing_compiles_training_goes_on_and_says_so(
    quick_config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any, **options: Any) -> object:
        raise RuntimeError("no compiler here\nsecond line")

    monkeypatch.setattr(torch, "compile", refuse)
    state = TrainState.build(changed(quick_config, compile=True), CPU)
    assert caplog.messages == ["torch.compile does not work here, so training continues without it: no compiler here"]
    assert state.step(0, 1e-3, crops()).taken


@pytest.mark.filterwarnings("ignore")  # the compiler gives warnings of its own
def test_a_network_that_does_not_compile_runs_as_it_is(
    quick_config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiled: list[int] = []

    def failing(graph: torch.fx.GraphModule, *rest: Any, **options: Any) -> object:
        compiled.append(1)
        if len(compiled) > 1:  # the first call only tries the compiler, and works
            raise RuntimeError("no such kernel")
        return graph.forward

    monkeypatch.setattr("torch._inductor.async_compile.maybe_warm_pool", lambda: None)
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", failing)
    state = TrainState.build(changed(quick_config, compile=True), CPU)
    ours = [record for record in caplog.records if record.name.startswith("attncodec")]
    assert not ours and state.step(0, 1e-3, crops()).taken and len(compiled) > 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # the compiler gives warnings of its own
def test_compiled_networks_lose_what_the_others_do(quick_config: Config) -> None:
    losses = []
    for compiled in (False, True):
        state = TrainState.build(changed(quick_config, compile=compiled, precision="float32"), CPU)
        losses.append([float(state.step(step, 1e-3, crops()).loss) for step in range(4)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_checkpoint_of_before_the_density_was_our_own_still_loads(quick_config: Config) -> None:
    state, other = TrainState.build(quick_config, CPU), TrainState.build(changed(quick_config, seed=1), CPU)
    today = state.codec.state_dict()
    weights = {name.replace("z_prior.density.", OLD_DENSITY): tensor for name, tensor in today.items()}
    buffers = ("_offset", "_quantized_cdf", "_cdf_length", "target", "likelihood_lower_bound.bound")
    load_weights(other.codec, {**weights, **{OLD_DENSITY + name: torch.zeros(1) for name in buffers}})
    loaded = other.codec.state_dict()
    assert loaded.keys() == today.keys() and all(torch.equal(loaded[name], today[name]) for name in today)
    weights.pop(f"{OLD_DENSITY}biases.0")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_weights(other.codec, weights)
