"""Carry a model of format 3 over into format 4.

    python scripts/carry_over.py OLD.safetensors PICTURES -o NEW.safetensors [--crops 64] [--side 512]

The weights are those of the old file; those of the integer networks are rounded again, to the range of format 4. The
tables of z stay as they are. What format 4 measures is measured on crops of PICTURES, the folder that the model was
trained on. Files that the old model wrote need an earlier build, because the new model has another decoder_id.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attncodec.coding.fixed_point import FIXED_POINT_ONE, convolutions
from attncodec.coding.integer_context import CONTEXT
from attncodec.coding.model_file import codec_weights, tables_of
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.coding.tables import Tables
from attncodec.coding.tensor_file import read_meta, read_tensors
from attncodec.config import Config, DataConfig, ModelConfig, TrainConfig
from attncodec.console import log_to_stderr
from attncodec.errors import AttncodecError, CheckpointError
from attncodec.files import check_writable
from attncodec.networks.context import ContextModel
from attncodec.networks.hyperprior import HyperpriorCodec, build_codec
from attncodec.training.data import Crops
from attncodec.training.setup import load_pictures

OLD_FORMAT = "attncodec-model-3"
OLD_BIAS_BITS = 20


def read_old(path: Path) -> tuple[HyperpriorCodec, Tables, dict[str, Any]]:
    """Read the codec in floats, its tables of z, and how it was trained. Raises CheckpointError."""
    meta, tensors = read_meta(path, OLD_FORMAT), read_tensors(path)
    fields = dict(meta["config"])
    codec = build_codec(ModelConfig.model_validate({"rd_lambdas": fields.pop("levels"), **fields}))
    assert isinstance(codec.prior, ContextModel)
    unknown = codec.load_state_dict(codec_weights(tensors), strict=False).unexpected_keys
    if unknown:
        raise CheckpointError(f"{path} has a tensor that its configuration does not have: {unknown[0]}")
    with torch.no_grad():
        for name, conv in convolutions(codec.prior.networks):
            weight, shift, bias = (tensors[f"{CONTEXT}{name}.{field}"] for field in ("weight", "shift", "bias"))
            conv.weight.copy_(weight / torch.exp2(shift.double())[:, None, None, None])
            conv.bias.copy_(bias.double() / 2**OLD_BIAS_BITS)
        codec.prior.quality_bias.copy_(tensors["quality_bias"] / FIXED_POINT_ONE)
        codec.log2_gain.copy_(tensors["log2_gain"] / FIXED_POINT_ONE)
    return codec.eval().requires_grad_(False), tables_of(tensors, "z"), meta["about"]


def training_crops(pictures: Path, count: int, side: int) -> Tensor:
    """Return crops of the pictures that a run on this folder trains on, (count, 3, side, side) in [0, 1]."""
    data = DataConfig(train=str(pictures), crop=side)
    config = Config(data=data, train=TrainConfig(batch=count))
    crops = Crops(load_pictures(config).train, config, torch.device("cpu"))
    try:
        return crops.first(count).float() / 255
    finally:
        crops.close()


def carry_over(old: Path, crops: Tensor | None) -> SealedCodec:
    codec, z_tables, training_info = read_old(old)
    return seal(codec, training_info, crops, z_tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=64)
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    log_to_stderr()
    try:
        check_writable([options.out], force=False)
        sealed = carry_over(options.old, training_crops(options.pictures, options.crops, options.side))
        sealed.save(options.out)
    except AttncodecError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
    print(f"{options.old} -> {options.out}  {options.out.stat().st_size} bytes, model {sealed.header.decoder_id.hex()}")


if __name__ == "__main__":
    main()
