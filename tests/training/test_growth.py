import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, make_codec, photo
from test_trainer import CPU, changed, rows_of, run

from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import compress, reconstruct
from attncodec.coding.model_file import read_header
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.coding.shipped import shipped
from attncodec.config import AttentionConfig, Config
from attncodec.config_file import dump_yaml, load_config
from attncodec.errors import ConfigError
from attncodec.metrics.psnr import psnr_db, psnr_for_means_db
from attncodec.networks.coding_order import coding_order
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.pictures import to_tensor
from attncodec.quality import rd_lambda_at
from attncodec.training.checkpoint import load_checkpoint
from attncodec.training.growth import Places, additions, grow, refusals
from attncodec.training.init_from import load_initial, networks_of, unseal, with_networks
from attncodec.training.train import train
from attncodec.training.train_state import TrainState

BASE = TINY.model_copy(update={"widths": (8, 16, 24), "attention": AttentionConfig(analysis=("gated", "none"))})
LARGER: dict[str, dict[str, Any]] = {
    "blocks": {"analysis_blocks": (1, 2, 3), "synthesis_blocks": (1, 2, 3)},
    "widths": {"widths": (10, 20, 36)},
    "channels of y": {"latent_channels": 30},
    "channels of z": {"hyper_channels": 20},
    "context": {"context_width": 40},
    "attention": {"attention": AttentionConfig(analysis=("gated", "dot"), synthesis=("none", "gated"))},
}
READS_Z = "prior.networks.hyper.0.0.weight"
EVERYTHING = {key: value for changes in LARGER.values() for key, value in changes.items()}


def base(context: str = "quadtree") -> HyperpriorCodec:
    return make_codec(BASE.model_copy(update={"context": context})).eval()


def losses(codec: HyperpriorCodec) -> list[float]:
    """Return bpp + lambda 255^2 MSE at three qualities."""
    rgb, found = photo(150, 200), []
    for quality_index in (64, 128, 192):
        decoded, bits = codec.reconstruct(rgb, quality_index)
        mse_255 = 255**2 * 10 ** (-psnr_for_means_db(rgb, decoded) / 10)
        found.append(bits / (150 * 200) + rd_lambda_at(codec.config.rd_lambdas, quality_index) * mse_255)
    return found


@pytest.mark.parametrize("kind", [*LARGER, "everything"])
def test_a_grown_codec_starts_at_the_loss_of_its_source(kind: str) -> None:
    config = BASE.model_copy(update=LARGER.get(kind, EVERYTHING))
    source = base()
    assert losses(grow(source, config).eval()) == pytest.approx(losses(source), rel=1e-3)


def test_a_codec_without_context_grows_too() -> None:
    source = base("none")
    config = source.config.model_copy(update=EVERYTHING)
    assert losses(grow(source, config).eval()) == pytest.approx(losses(source), rel=1e-3)


@pytest.mark.parametrize("kind", list(LARGER))
def test_everything_that_is_new_learns(kind: str, quick_config: Config) -> None:
    """All new weights have moved after a few steps, except those that read new channels of z, which are zero until
    their gains have risen."""
    config = quick_config.model_copy(update={"model": BASE.model_copy(update=LARGER[kind])})
    state, source = TrainState.build(config, CPU), base()
    state.begin_from(grow(source, config.model))
    before = {name: tensor.clone() for name, tensor in state.codec.state_dict().items()}
    crops = torch.from_numpy(photo(128, 128)).permute(2, 0, 1)[None].expand(2, -1, -1, -1)
    for step in range(4):
        state.step(step, 1e-2, crops)
    new = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in before.items()}
    places = Places(source, state.codec)
    for name, tensor in source.state_dict().items():
        new[places.name(name)][places.index(name, tensor)] = False
    parameters = {name: p for name, p in state.codec.named_parameters() if new[name].any() and name != READS_Z}
    assert parameters
    for name, parameter in parameters.items():
        moved = (parameter.detach() != before[name])[new[name]].float().mean()
        assert moved > 0.25, (name, float(moved))  # some ReLUs are inactive


def test_a_grown_codec_is_sealed_and_its_silent_channels_cost_nothing() -> None:
    source = base()
    config = source.config.model_copy(update=EVERYTHING)
    rgb = photo(150, 200)
    small, large = (seal(codec, {}) for codec in (source, grow(source, config)))
    for quality_index in (64, 192):
        (ours, our_bits), (theirs, their_bits) = (reconstruct(s, rgb, quality_index) for s in (small, large))
        assert our_bits == pytest.approx(their_bits, rel=2e-3)
        assert psnr_db(rgb, ours) == pytest.approx(psnr_db(rgb, theirs), abs=0.02)
    assert decompress(large, compress(large, rgb)).shape == rgb.shape


def test_silent_channels_change_neither_the_rounding_nor_the_integers_of_the_others() -> None:
    source, at = base(), torch.tensor([64, 128, 192])
    grown = grow(source, source.config.model_copy(update={"latent_channels": 56, "hyper_channels": 20}))
    assert torch.equal(grown.error_bits(at, 0.01), source.error_bits(at, 0.01))
    crops = to_tensor(photo(128, 128))
    small, large = (seal(codec, {}, crops).tensors for codec in (source, grown))
    count = len(small["z_fraction"])
    assert torch.equal(large["z_fraction"][:count], small["z_fraction"]) and (large["z_fraction"][count:] == 14).all()
    weight = "context.hyper.0.0.weight"
    assert torch.equal(large[weight][:, :count], small[weight])


def test_new_channels_of_y_stand_at_the_end_of_each_quarter_of_the_coding_order() -> None:
    source = base()
    grown = grow(source, source.config.model_copy(update={"latent_channels": 32}))
    latents = source.analyse(to_tensor(photo(64, 64)))
    places = [quarter * 8 + number for quarter in range(4) for number in range(6)]
    assert torch.allclose(grown.analyse(to_tensor(photo(64, 64)))[:, places], latents, atol=1e-5)
    for old, new in zip(coding_order("quadtree", 24), coding_order("quadtree", 32), strict=True):
        kept = [latent for latent in new.tolist() if latent // 4 in places]
        assert kept == [4 * places[latent // 4] + latent % 4 for latent in old.tolist()]


def test_what_cannot_grow_is_refused_with_the_reason() -> None:
    windowed = BASE.model_copy(update={"attention": AttentionConfig(kind="dot", strides=(8, 16))})
    for source, change, reason in (
        (BASE, {"latent_channels": 20}, "removes channels"),
        (BASE, {"analysis_blocks": (0, 0, 1)}, "removes channels or blocks"),
        (BASE, {"rd_lambdas": (0.0018, 0.0130)}, "a different codec"),
        (BASE, {"context": "none"}, "a different codec"),
        (BASE, {"attention": AttentionConfig(kind="dot")}, "gated -> none"),
        (TINY, {"widths": (8, 16, 24)}, "another stride"),
        (windowed, {"widths": (8, 20, 24)}, "normalises"),
        (windowed, {"attention": AttentionConfig(kind="dot", strides=(8, 16), window=4)}, "windows"),
        (
            windowed,
            {"attention": AttentionConfig(kind="dot", strides=(8, 16), options={"dot": {"bias": True}})},
            "different options",
        ),
    ):
        assert reason in refusals(source, source.model_copy(update=change))[0]
    with pytest.raises(ConfigError, match=r"cannot grow into those of the configuration: model\.latent_channels"):
        grow(base(), BASE.model_copy(update={"latent_channels": 20}))
    assert not refusals(BASE, BASE) and not additions(BASE, BASE)


@pytest.mark.gate
def test_training_grows_a_model_and_says_what_is_new(
    quick_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="attncodec")
    first = run(changed(quick_config, budget="30", lr=3e-3), tmp_path / "first")
    larger = TINY.model_copy(update={"analysis_blocks": (0, 2, 2), "context_width": 48})
    config = changed(quick_config, budget="2", lr=1e-9, init=str(first.folder.best))
    outcome = train(config.model_copy(update={"model": larger}), tmp_path / "second", CPU)
    assert outcome.progress.best_loss == pytest.approx(first.progress.best_loss, rel=1e-3)
    assert f"inherited from {first.folder.best}: its averaged weights" in caplog.messages
    new = "16 channels of the context networks, 1 analysis blocks at stride 8, 1 analysis blocks at stride 16"
    assert f"new: {new}, the state of the optimiser" in caplog.messages
    inherited = [row for row in rows_of(outcome.folder.metrics) if row["kind"] == "validation" and not row["quality"]]
    assert inherited[0]["step"] == "0" and inherited[-1]["step"] == "2"
    assert float(inherited[0]["loss"]) == pytest.approx(first.progress.best_loss, rel=1e-3)


def test_a_model_without_gains_of_z_gets_them(sealed: SealedCodec, tmp_path: Path, quick_config: Config) -> None:
    data = Path(__file__).parent.parent / "data" / "tiny.safetensors"  # it has no gains of z
    config = changed(quick_config, init=str(data)).model_copy(update={"model": networks_of(data)})
    found = load_initial(config)
    assert "gains of z" in found.new and not found.codec.log2_gain_z.any()


def test_without_a_model_section_the_networks_are_those_of_the_file(tmp_path: Path, model_file: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {budget: 10}\n")
    config = load_config(tmp_path / "a.yaml", [f"train.init={model_file}"])
    assert with_networks(config).model == TINY
    wider = load_config(tmp_path / "a.yaml", [f"train.init={model_file}", "model.context_width=48"])
    assert with_networks(wider).model == TINY.model_copy(update={"context_width": 48})
    other = load_config(tmp_path / "a.yaml", [f"train.init={model_file}", "model.widths=[0,18,26]"])
    assert with_networks(other).model == TINY.model_copy(update={"widths": (0, 18, 26)})
    begun = tmp_path / "begun.yaml"
    begun.write_text(dump_yaml(with_networks(wider)))
    model_file_is_gone = wider.model_copy(update={"train": wider.train.model_copy(update={"init": "gone"})})
    assert with_networks(model_file_is_gone, load_config(begun)).model == with_networks(wider).model


def test_a_kind_of_attention_that_is_given_stands_in_all_places(tmp_path: Path) -> None:
    codec = make_codec(BASE)  # its analysis has another kind in each place
    seal(codec, {}).save(tmp_path / "model.safetensors")
    (tmp_path / "a.yaml").write_text("")
    init = f"train.init={tmp_path / 'model.safetensors'}"
    assert with_networks(load_config(tmp_path / "a.yaml", [init])).model == BASE
    given = load_config(tmp_path / "a.yaml", [init, "model.attention.kind=dot", "model.attention.strides=[8, 16]"])
    assert with_networks(given).model.attention.kinds("analysis") == ("dot", "dot")


def test_the_shipped_model_is_a_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {init: shipped}\n")
    config = load_config(tmp_path / "a.yaml")
    assert with_networks(config).model == read_header(shipped()).config


def test_averaged_weights_of_a_checkpoint_are_what_grows(quick_config: Config, tmp_path: Path) -> None:
    first = run(quick_config, tmp_path / "first")
    tensors = load_checkpoint(first.folder.best).part("average.")
    found = load_initial(changed(quick_config, init=str(first.folder.best))).codec.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in tensors.items())


def test_unsealed_weights_are_those_that_grow(sealed: SealedCodec) -> None:
    source = unseal(sealed).eval()
    assert losses(grow(source, TINY).eval()) == losses(source)
