from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, make_codec, photo
from test_trainer import changed, run

from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.coding.shipped import shipped
from attncodec.config import Config, ModelConfig
from attncodec.errors import CheckpointError, ConfigError
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.pictures import to_tensor
from attncodec.training.checkpoint import load_checkpoint
from attncodec.training.init_from import load_initial, path_of, unseal
from attncodec.training.run_folder import RunFolder


def test_a_codec_unsealed_is_the_one_that_was_sealed_but_for_rounding(
    codec: HyperpriorCodec, sealed: SealedCodec
) -> None:
    found = unseal(sealed)
    x = to_tensor(photo(128, 128, 5))
    with torch.no_grad():
        assert torch.allclose(found.analyse(x), codec.analyse(x), atol=2e-2)
    for quality_index in (64, 164):
        (ours, our_bits), (theirs, their_bits) = (
            c.reconstruct(photo(128, 128, 5), quality_index) for c in (found, codec)
        )
        assert np.abs(ours.astype(int) - theirs).max() <= 40 and np.abs(ours.astype(int) - theirs).mean() < 0.5
        assert our_bits == pytest.approx(their_bits, rel=0.02)


@pytest.mark.parametrize("rd_lambdas", [TINY.rd_lambdas, (0.0130,)], ids=["levels", "one level"])
def test_sealing_again_changes_little_of_the_tables_of_z(rd_lambdas: tuple[float, ...]) -> None:
    sealed = seal(make_codec(TINY.model_copy(update={"rd_lambdas": rd_lambdas})), {})
    again = seal(unseal(sealed), {})
    symbols = np.tile(np.arange(-2, 3, dtype=np.int32), TINY.hyper_channels)
    index = np.repeat(np.arange(TINY.hyper_channels, dtype=np.uint16), 5)
    before, after = (tables.bits(symbols, index) for tables in (sealed.z_tables, again.z_tables))
    weights = np.exp2(-before)
    assert abs((weights * (after - before)).sum() / weights.sum()) < 0.02
    for name in ("log2_gain", "quality_bias"):
        assert torch.equal(again.tensors[name], sealed.tensors[name])


@pytest.mark.gate
def test_training_goes_on_from_a_model_and_from_a_checkpoint(quick_config: Config, tmp_path: Path) -> None:
    long = changed(quick_config, budget="60", lr=3e-3)
    first = run(long, tmp_path / "first")
    for name, init in (("a", first.folder.model), ("b", first.folder.best), ("c", first.folder.path)):
        outcome = run(changed(quick_config, budget="2", lr=1e-6, init=str(init)), tmp_path / name)
        assert outcome.progress.best_loss == pytest.approx(first.progress.best_loss, rel=0.02)
    tensors = load_checkpoint(RunFolder(tmp_path / "b").good).part("model.")
    assert all(torch.equal(tensors[k], v) for k, v in load_checkpoint(first.folder.best).part("average.").items())


def test_other_networks_and_other_files_are_refused(quick_config: Config, tmp_path: Path, model_file: Path) -> None:
    config = changed(quick_config, init=str(model_file))
    assert load_initial(config).codec.config == TINY
    with pytest.raises(ConfigError, match=r"cannot grow.*model\.rd_lambdas"):
        load_initial(config.model_copy(update={"model": ModelConfig()}))
    with pytest.raises(CheckpointError, match="no file"):
        load_initial(changed(quick_config, init="nowhere.safetensors"))
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no sealed model yet") as caught:
        load_initial(changed(quick_config, init=str(tmp_path / "run")))
    assert "best.safetensors" in caught.value.hint
    assert path_of(changed(quick_config, init="default")) == path_of(changed(quick_config, init="shipped")) == shipped()
    (tmp_path / "cut").write_bytes(model_file.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="damaged"):
        load_initial(changed(quick_config, init=str(tmp_path / "cut")))
