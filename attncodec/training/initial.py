"""Where training starts from, other than from nothing: a checkpoint, or a sealed model turned back into floats."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from attncodec.config import Config, flatten
from attncodec.errors import CheckpointError, ConfigError
from attncodec.model.codec import Codec
from attncodec.model.coder import Tables
from attncodec.model.context import ONE, FloatPrior, float_twin
from attncodec.model.model_file import FLOAT_PARTS, tables_of
from attncodec.model.prior import LIKELIHOOD_MIN, LearnedPrior
from attncodec.model.sealed import SealedCodec, load_sealed
from attncodec.training.checkpoint import averaged_codec, build_codec, load_checkpoint

FIT_STEPS, FIT_LR = 400, 0.03


@dataclass(frozen=True)
class Initial:
    """A codec that can learn, and in words what it has of its file."""

    codec: Codec
    inherited: str


def load_initial(config: Config) -> Initial:
    """Read `train.init`: a checkpoint, a model file, or a run folder that holds one.

    Raises CheckpointError where the file is neither a checkpoint nor a model, and ConfigError where its networks are
    not those of the configuration, naming the keys.
    """
    path = Path(config.train.init)
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError as not_a_checkpoint:
        try:
            sealed = load_sealed(path)
        except CheckpointError as error:
            # Of the two complaints, that of the kind of file that it is.
            raise (error if "attncodec-model" in str(not_a_checkpoint) else not_a_checkpoint) from None
        _check_same(config, sealed.header.config.model_dump())
        kept = "all weights as they were sealed; the prior of z is fitted to its tables, and the optimiser starts anew"
        return Initial(unseal(sealed), kept)
    _check_same(config, checkpoint.config.model.model_dump())
    return Initial(averaged_codec(checkpoint), "the averaged weights; the optimiser starts anew")


def _check_same(config: Config, model: dict[str, object]) -> None:
    wanted, found = flatten(config.model.model_dump()), flatten(model)
    different = [f"model.{key} ({found.get(key)} -> {wanted[key]})" for key in wanted if wanted[key] != found.get(key)]
    if different:
        hint = "take over its values, or train without train.init"
        raise ConfigError(f"{config.train.init} holds other networks: {', '.join(different)}", hint)


def unseal(sealed: SealedCodec) -> Codec:
    """A codec that can learn, of a sealed one.

    Transforms come back in the 16 bits that they were stored in, context networks and gains as what their integers
    stand for. The density of z is gone with sealing, only its tables are left: a new one is fitted to them.
    """
    codec = build_codec(sealed.header.config)
    assert isinstance(codec.prior, FloatPrior) and isinstance(codec.z_prior, LearnedPrior)
    tensors = sealed.tensors
    floats = {name: tensor.float() for name, tensor in tensors.items() if name.startswith(FLOAT_PARTS)}
    codec.load_state_dict(floats, strict=False)
    codec.prior.load_state_dict(float_twin(sealed.header.config, tensors).state_dict())
    with torch.no_grad():
        codec.log2_gain.copy_(tensors["log2_gain"] / ONE)
    fit_prior(codec.z_prior, tables_of(tensors, "z"))
    return codec


def fit_prior(prior: LearnedPrior, tables: Tables) -> None:
    """Fit the density to tables, one a channel: the least bits for symbols that come as often as the tables say.

    It takes seconds. Densities whose tables look alike are equally good to the coder, so nothing better can be had.
    """
    rows = tables.split()
    symbols = torch.arange(int(tables.lows.min()), int((tables.lows + tables.sizes).max()))
    weights = torch.zeros(len(rows), len(symbols))
    for row, low, weight in zip(rows, tables.lows, weights, strict=True):
        start = int(low - symbols[0])
        mass = torch.from_numpy(row[:-1]).float()  # without the escape
        weight[start : start + len(mass)] = mass / mass.sum()
    values = symbols.float().expand(len(rows), 1, -1)
    optimiser = torch.optim.Adam(prior.parameters(), lr=FIT_LR)
    for step in range(FIT_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = FIT_LR * (1 - step / FIT_STEPS)
        likelihood: Tensor = prior.bottleneck._likelihood(values)[0]
        loss = -(weights * torch.log2(likelihood[:, 0].clamp_min(LIKELIHOOD_MIN))).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
