"""Training can start from a checkpoint, or from a sealed model that is turned back into floats."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from attncodec.coding.find_model import choose_model
from attncodec.coding.fixed_point import FIXED_POINT_ONE
from attncodec.coding.integer_context import dequantised
from attncodec.coding.model_file import FORMAT as MODEL_FORMAT
from attncodec.coding.model_file import GAIN_Z, OLD_FORMATS, codec_weights, gains_of, tables_of
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.coding.shipped import shipped
from attncodec.coding.tables import Tables
from attncodec.coding.tensor_file import read_format
from attncodec.config import Config, ModelConfig
from attncodec.config_file import build_config, flatten, nest
from attncodec.errors import CheckpointError, ConfigError
from attncodec.networks.context import ContextModel
from attncodec.networks.hyperprior import HyperpriorCodec, build_codec
from attncodec.networks.priors import LearnedPrior, SideInfo
from attncodec.registry import nearest
from attncodec.training.checkpoint import AVERAGE, Checkpoint, load_checkpoint
from attncodec.training.export import averaged_codec
from attncodec.training.growth import additions, grow

SHIPPED_NAME = "shipped"  # This value of train.init stands for the shipped model.
NEW_PARTS = {GAIN_Z: "gains of z"}  # Older files have no tensors of these parts.
FIT_STEPS, FIT_LR = 400, 0.03


@dataclass(frozen=True)
class Initial:
    """Holds a codec that can learn, and says in words what it inherited from its file and what is new."""

    codec: HyperpriorCodec
    inherited: str
    new: str


def path_of(config: Config) -> Path:
    """Return the file that `train.init` names: a shipped model, a file, or the model in a run folder.

    Raises CheckpointError if it does not exist, or if a run folder has no model but a checkpoint.
    """
    if config.train.init == SHIPPED_NAME:
        return shipped()
    path = Path(config.train.init)
    found, best = choose_model(path), path / "checkpoints" / "best.safetensors"
    if not found.exists() and best.exists():
        raise CheckpointError(f"{path} has no sealed model yet", f"train.init={best} begins with its best checkpoint")
    if not found.exists():
        asked = f"did you mean {SHIPPED_NAME}? " if nearest(str(path), [SHIPPED_NAME], cutoff=0.6) else ""
        raise CheckpointError(
            f"train.init: there is no file {found}", f"{asked}Give a model, a checkpoint or a run folder"
        )
    return found


def with_networks(config: Config, begun: Config | None = None) -> Config:
    """Fill in what the model section leaves out, from the file of `train.init`.

    If the run has begun already, its configuration `begun` is used instead of the file.
    """
    if not config.train.init:
        return config
    whole = begun.model if begun else networks_of(path_of(config))
    given = flatten(config.model.model_dump(exclude_unset=True)) if "model" in config.model_fields_set else {}
    if {"attention.kind", "attention.strides"} & set(given):  # These keys set all places.
        given = {"attention.analysis": None, "attention.synthesis": None, **given}
    model = build_config({"model": nest({**flatten(whole.model_dump()), **given})}, "the model section").model
    return config.model_copy(update={"model": model})


def networks_of(path: Path) -> ModelConfig:
    """Read the configuration of the networks in a checkpoint or model file. Raises CheckpointError if it is neither."""
    found = _read(path)
    return found.header.config if isinstance(found, SealedCodec) else found.config.model


def load_initial(config: Config) -> Initial:
    """Read `train.init`: a checkpoint, a model file, a run folder that holds one, or the shipped model.

    Raises CheckpointError if the file is neither a checkpoint nor a model, and ConfigError, which names the keys, if
    its networks cannot grow into those of the configuration.
    """
    found = _read(path_of(config))
    torch.manual_seed(config.train.seed)  # This seeds the weights that are new.
    if isinstance(found, SealedCodec):
        source, before = unseal(found), "its sealed weights, and a prior of z that is fitted to its tables"
        parts = [name for tensor, name in NEW_PARTS.items() if tensor not in found.tensors]
    else:
        source, before = averaged_codec(found), "its averaged weights"
        parts = [name for tensor, name in NEW_PARTS.items() if AVERAGE + tensor not in found.tensors]
    try:
        codec = grow(source, config.model)
    except ConfigError as error:
        raise ConfigError(f"{config.train.init}: {error}", error.hint) from None
    new = [*parts, *additions(source.config, config.model), "the state of the optimiser"]
    return Initial(codec, f"inherited from {config.train.init}: {before}", f"new: {', '.join(new)}")


def _read(path: Path) -> Checkpoint | SealedCodec:
    if read_format(path) in (MODEL_FORMAT, *OLD_FORMATS):
        return load_sealed(path)
    return load_checkpoint(path)


def unseal(sealed: SealedCodec) -> HyperpriorCodec:
    """Turn a sealed codec into one that can learn.

    Convolution weights of the transforms keep the 16-bit values that they were stored in. Context networks and gains
    become the floats that their integers stand for. Sealing discards the density of z and keeps only its tables, so a
    new density is fitted to them.
    """
    codec = build_codec(sealed.header.config)
    assert isinstance(codec.prior, ContextModel) and isinstance(codec.z_prior, LearnedPrior)
    tensors = sealed.tensors
    codec.load_state_dict(codec_weights(tensors), strict=False)
    codec.prior.load_state_dict(dequantised(sealed.header.config, tensors).state_dict())
    with torch.no_grad():
        for name, gain in gains_of(sealed.header.config, tensors).items():
            getattr(codec, name).copy_(gain / FIXED_POINT_ONE)
    fit_prior(codec.z_prior, tables_of(tensors, "z"), codec.log2_gain_z.detach())
    return codec


def fit_prior(prior: LearnedPrior, tables: Tables, log2_gain: Tensor) -> None:
    """Fit the density to tables, so that symbols as frequent as the tables say cost the fewest bits.

    If each level has tables, those of the last level are taken: the density is that of z without its gain, and the last
    level has the finest quantisation steps. `log2_gain` is (L, N), and holds zeros if the model has no gains of z.

    The fit takes seconds. Densities with similar tables are equally good for the coder, so no better fit is possible.
    """
    rows, channels = tables.split(), log2_gain.shape[1]
    rows, lows, sizes = rows[-channels:], tables.lows[-channels:], tables.sizes[-channels:]
    symbols = torch.arange(int(lows.min()), int((lows + sizes).max()))
    weights = torch.zeros(len(rows), len(symbols))
    for row, low, weight in zip(rows, lows, weights, strict=True):
        start = int(low - symbols[0])
        mass = torch.from_numpy(row[:-1]).float()  # The escape, which is the last entry, is left out.
        weight[start : start + len(mass)] = mass / mass.sum()
    values = symbols.float().expand(1, channels, 1, -1)
    side = SideInfo(tuple(values.shape), log2_gain[-1:, :, None, None], torch.zeros(1, dtype=torch.int64))
    optimiser = torch.optim.Adam(prior.parameters(), lr=FIT_LR)
    for step in range(FIT_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = FIT_LR * (1 - step / FIT_STEPS)
        loss = (weights * prior.bits(values, side)[0, :, 0]).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
