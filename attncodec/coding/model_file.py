"""This module reads and writes model files of format 4.

A model file is a safetensors file with one metadata key, `attncodec`. The key holds canonical JSON with these fields:

    format         "attncodec-model-4"
    decoder        the fields of the configuration's model section that the decoder depends on, by dotted key
    encoder        the other fields of that section
    decoder_id     first 8 bytes, in hex, of SHA-256 over format, `decoder` as it is stored, and each decoder tensor in
                   order of name (name, dtype, shape, contiguous little-endian bytes as stored); every .atc contains it
    training_info  how the model was trained and sealed; decoder_id does not depend on it
    file_sha256    SHA-256, in hex, over the whole file: the JSON without this key, then all tensors

Digests cover only what is stored, and no defaults of the present build. So if a later build adds a field with a default
to the configuration, models that lack the field do not change, and neither do the files that they wrote.

Convolution weights are stored in 16 bits, and all other weights in 32. The networks that feed the entropy coder, the
gains and the tables are integers (fixed_point.py, integer_context.py, tables.py). They are stored as integers, and
never computed again. Tensors whose names begin with `reconstruction.` or `rounding.` are measured at sealing, and are
absent if nothing was measured (calibration.py). Models from before z had gains lack the gains of z. A safetensors file
holds numbers only, so nothing in a model file can be executed.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attncodec.coding.integer_context import CONTEXT, Z_FRACTION, integer_shapes
from attncodec.coding.tables import Tables
from attncodec.coding.tensor_file import canonical_json, read_meta, read_tensors, sha256_of, shown, to_bytes
from attncodec.config import ModelConfig
from attncodec.config_file import build_config, flatten, nest
from attncodec.errors import CheckpointError, ConfigError
from attncodec.networks.context import ContextModel
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.priors import NUM_SCALES

FORMAT = "attncodec-model-4"
ENCODER_FIELDS = ("analysis_blocks", "attention.analysis", "rd_lambdas")
FLOAT_PARTS = ("analysis.", "hyper_analysis.", "synthesis.")
# These tensors have other names in a file than in a codec.
STORED_NAMES = {f"{part}.latent_std": f"{part}.unit" for part in ("analysis", "synthesis")}
GAIN_Z = "log2_gain_z"
OFFSETS = "reconstruction.offsets"
ERROR_WEIGHT = "rounding.error_weight"
CENTRES = "rounding.centres"
DECODER_PARTS = (
    "synthesis.",
    CONTEXT,
    "quality_bias",
    "exp2",
    "log2_gain",
    "units_fraction",
    Z_FRACTION,
    "tables.",
    "reconstruction.",
)
TABLE_FIELDS = ("weights", "sizes", "lows")
# Measured values outside these ranges make no sense. Offsets and centres are in quantiser steps.
MEASURED_RANGES = {OFFSETS: (-8.0, 8.0), CENTRES: (-8.0, 8.0), ERROR_WEIGHT: (1e-6, 1e6)}
MEASURED_MAGNITUDES = 16  # Offsets and centres have this many magnitudes; the last stands for all larger ones.
DIGEST_BYTES = 8
OLD_FORMATS = ("attncodec-model-2", "attncodec-model-3")
OLD_HINT = (
    "format 4 replaced it, and files written with it need an older build; seal the run's checkpoint again, or convert "
    "a model of format 3 with scripts/carry_over.py"
)

Shape = list[int] | None  # None stands for one dimension of any length.


@dataclass(frozen=True)
class ModelHeader:
    """Holds the JSON of a model file as it is stored."""

    meta: dict[str, Any]

    @cached_property
    def config(self) -> ModelConfig:
        """Build the model section of the configuration from the stored fields. Raises ConfigError."""
        return build_config({"model": nest({**self.meta["decoder"], **self.meta["encoder"]})}, "its JSON").model

    @property
    def decoder_id(self) -> bytes:
        """Return the decoder_id, which every file of this model contains."""
        return bytes.fromhex(self.meta["decoder_id"])

    @property
    def file_sha256(self) -> str:
        """Return the SHA-256 of the whole file, in hex."""
        return str(self.meta["file_sha256"])

    @property
    def training_info(self) -> dict[str, Any]:
        """Return how the model was trained and sealed."""
        return dict(self.meta["training_info"])


def make_header(config: ModelConfig, tensors: dict[str, Tensor], training_info: dict[str, Any]) -> ModelHeader:
    """Make the JSON of a model that is being sealed."""
    fields = flatten(config.model_dump(mode="json"))
    meta: dict[str, Any] = {
        "format": FORMAT,
        "decoder": {name: value for name, value in fields.items() if name not in ENCODER_FIELDS},
        "encoder": {name: value for name, value in fields.items() if name in ENCODER_FIELDS},
        "training_info": training_info,
    }
    return ModelHeader({**meta, **digests(meta, tensors)})


def write_model(header: ModelHeader, tensors: dict[str, Tensor]) -> bytes:
    """Return the bytes of the model file."""
    return to_bytes(tensors, header.meta)


def read_header(path: Path) -> ModelHeader:
    """Read the JSON of a model file, without its tensors. Raises CheckpointError."""
    header = ModelHeader(read_meta(path, FORMAT, dict.fromkeys(OLD_FORMATS, OLD_HINT)))
    try:
        if set(header.meta) != {"format", "decoder", "encoder", "decoder_id", "training_info", "file_sha256"}:
            raise ValueError("its keys are not those of the format")
        if set(header.meta["encoder"]) - set(ENCODER_FIELDS) or set(header.meta["decoder"]) & set(ENCODER_FIELDS):
            raise ValueError("a field is in the wrong section")
        if not isinstance(header.meta["training_info"], dict):
            raise ValueError("training_info is not a section")
        _ = (header.config, header.decoder_id, header.file_sha256, header.training_info)
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged, or from a later build: {shown(error)}", "update attncodec") from None
    return header


def read_model(path: Path) -> tuple[ModelHeader, dict[str, Tensor]]:
    """Read the header and the tensors of a model file.

    Raises CheckpointError if the file is missing, not a model file, damaged, or of another version.
    """
    header = read_header(path)
    try:
        expected = expected_tensors(header.config)
    except ConfigError as error:  # a part that this build does not have
        raise CheckpointError(f"{path} is damaged, or of a later build: {shown(error)}", "update attncodec") from None
    tensors = read_tensors(path, expected, optional_tensors(header.config))
    if any(header.meta[name] != digest for name, digest in digests(header.meta, tensors).items()):
        raise CheckpointError(f"{path} is damaged: its checksum does not match", "copy it again, or seal it again")
    for name, (low, high) in MEASURED_RANGES.items():
        if name in tensors and not (low <= float(tensors[name].min()) and float(tensors[name].max()) <= high):
            raise CheckpointError(f"{path} is damaged: {name} is out of range")
    channels = header.config.hyper_channels
    if len(tensors["tables.z.sizes"]) not in (channels, channels * len(header.config.rd_lambdas)):
        raise CheckpointError(f"{path} is damaged: it has the wrong number of tables of z")
    return header, tensors


def expected_tensors(config: ModelConfig) -> dict[str, tuple[Shape, str]]:
    """Return shape and dtype of each tensor that every model file holds, by name."""
    with torch.device("meta"):
        codec = HyperpriorCodec(config, ContextModel(config), None)
    expected: dict[str, tuple[Shape, str]] = {**integer_shapes(config)}
    for name, tensor in _transform_tensors(codec).items():
        expected[name] = (list(tensor.shape), "F16" if tensor.dim() == 4 else "F32")
    # z has a table for each channel, or for each level and channel; read_model checks their number.
    for latent, tables in (("z", None), ("y", [NUM_SCALES])):
        expected[f"tables.{latent}.weights"] = (None, "I32")
        expected[f"tables.{latent}.sizes"] = expected[f"tables.{latent}.lows"] = (tables, "I32")
    return expected


def optional_tensors(config: ModelConfig) -> dict[str, tuple[Shape, str]]:
    """Return shape and dtype of each tensor that a model file may hold, by name."""
    by_symbol: Shape = [NUM_SCALES, MEASURED_MAGNITUDES]
    return {
        GAIN_Z: ([len(config.rd_lambdas), config.hyper_channels], "I32"),
        Z_FRACTION: ([config.hyper_channels], "U8"),
        OFFSETS: (by_symbol, "F32"),
        CENTRES: (by_symbol, "F32"),
        ERROR_WEIGHT: ([len(config.rd_lambdas), config.latent_channels], "F32"),
    }


def float_tensors(codec: HyperpriorCodec) -> dict[str, Tensor]:
    """Return the transforms as they are stored. Raises CheckpointError if a weight is not finite in 16 bits."""
    tensors = {}
    for name, tensor in _transform_tensors(codec).items():
        stored = tensor.detach().cpu().to(torch.float16 if tensor.dim() == 4 else torch.float32)
        if not bool(torch.isfinite(stored).all()):
            raise CheckpointError(f"the model cannot be sealed: {name} is not finite in 16 bits")
        tensors[name] = stored.contiguous()
    return tensors


def _transform_tensors(codec: HyperpriorCodec) -> dict[str, Tensor]:
    """Return the tensors of the transforms, by their names in files."""
    return {
        STORED_NAMES.get(name, name): tensor
        for name, tensor in codec.state_dict().items()
        if name.startswith(FLOAT_PARTS)
    }


def codec_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the stored transforms in float32, by their names in a codec."""
    names = {stored: name for name, stored in STORED_NAMES.items()}
    return {names.get(name, name): tensor.float() for name, tensor in tensors.items() if name.startswith(FLOAT_PARTS)}


def gains_of(config: ModelConfig, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gains, int64, by their names in a codec. Those of z are 0 in a model from before z had gains."""
    without = torch.zeros(len(config.rd_lambdas), config.hyper_channels)
    return {"log2_gain": tensors["log2_gain"].long(), GAIN_Z: tensors.get(GAIN_Z, without).long()}


def tables_of(tensors: dict[str, Tensor], latent: str) -> Tables:
    """Return the stored tables of `y` or `z`."""
    return Tables(*(tensors[f"tables.{latent}.{field}"].numpy() for field in TABLE_FIELDS))


def table_tensors(tables: Tables, latent: str) -> dict[str, Tensor]:
    """Return tables as they are stored. This is the inverse of `tables_of`."""
    return {f"tables.{latent}.{field}": torch.from_numpy(getattr(tables, field)) for field in TABLE_FIELDS}


def digests(meta: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, str]:
    """Compute the two digests of a model file, by their names in its JSON."""
    parts = {name: tensor for name, tensor in tensors.items() if name.startswith(DECODER_PARTS)}
    preamble = f"{meta['format']}\n{canonical_json(meta['decoder'])}\n"
    found = {"decoder_id": sha256_of(parts, preamble).digest()[:DIGEST_BYTES].hex()}
    rest = {key: value for key, value in {**meta, **found}.items() if key != "file_sha256"}
    return {**found, "file_sha256": sha256_of(tensors, f"{canonical_json(rest)}\n").hexdigest()}
