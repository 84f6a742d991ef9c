"""Inputs that are refused, for the table in test_refusals.py."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import photo
from test_container import SIZE, version_0, version_1
from torch import nn

from attncodec.coding import model_file
from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder, Target, compress
from attncodec.coding.extras import unpack_extras
from attncodec.coding.fixed_point import IntegerConv2d, quantise_conv
from attncodec.coding.integer_context import IntegerContextModel
from attncodec.coding.range_coder import SymbolReader, SymbolWriter
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.coding.tables import Tables, TableSet, gaussian_tables
from attncodec.coding.tensor_file import to_bytes
from attncodec.container import Container
from attncodec.networks.hyperprior import HyperpriorCodec

DAMAGED = "the file is damaged: {}"
RGB = photo(20, 30)
OTHER_ID = b"\x01\x02" * 4
TRAILER = 52  # a file of version 0 ends with this many bytes of latents, and its header with a checksum before them
BAD_CRC = version_1(*SIZE)[:-1] + bytes([version_1(*SIZE)[-1] ^ 1])
BAD_CRC_0 = version_0()[: -TRAILER - 1] + bytes([version_0()[-TRAILER - 1] ^ 1]) + version_0()[-TRAILER:]


class World:
    """Makes the inputs of the table. Messages have {path}, {id} and so on where they name something of it."""

    def __init__(self, codec: HyperpriorCodec, sealed: SealedCodec, folder: Path) -> None:
        self.codec, self.sealed, self.folder, self.path = codec, sealed, folder, folder / "m.safetensors"
        encoder = PictureEncoder(sealed, RGB)
        self.container = encoder.encode(Target())
        self.names = {
            "path": self.path,
            "folder": folder,
            "id": sealed.header.decoder_id.hex(),
            "other": OTHER_ID.hex(),
            "smallest": encoder.file_bytes(encoder.lowest),
            "best": f"{encoder.psnr_db(encoder.highest):.2f}",
        }

    def file(self, data: bytes) -> Path:
        """Write a file, and return its path."""
        self.path.write_bytes(data)
        return self.path

    def no_file(self) -> Path:
        """Return the path of a file that is not there."""
        self.path.unlink(missing_ok=True)
        return self.path

    def with_number(self, written: bytes) -> Path:
        """Write a file whose JSON has this number."""
        data = to_bytes({}, {"format": "any", "number": 12345.5})
        return self.file(data.replace(b"12345.5", written.ljust(7)))

    def model(self, digests: bool = True, **changes: Any) -> Path:
        """Write the model with other values in its JSON, and with the digests that they have."""
        meta, tensors = {**json.loads(json.dumps(self.sealed.header.meta)), **changes}, self.sealed.tensors
        if digests:
            meta |= model_file.digests(meta, tensors)
        return self.file(to_bytes(tensors, meta))

    def decoder_with(self, **changes: Any) -> Path:
        """Write the model with other values in the decoder's part of its configuration."""
        return self.model(decoder={**self.sealed.header.meta["decoder"], **changes})

    def tensors(self, changes: dict[str, torch.Tensor]) -> Path:
        """Write the model with other tensors, and with the digests that they have."""
        tensors = {**self.sealed.tensors, **changes}
        header = model_file.make_header(self.sealed.header.config, tensors, {})
        return self.file(model_file.write_model(header, tensors))

    def one_table_less(self) -> Path:
        """Write the model without its last table of z."""
        found = model_file.tables_of(self.sealed.tensors, "z")
        fewer = Tables.join([row.astype(np.int64) for row in found.split()[:-1]], found.lows[:-1].tolist())
        return self.tensors(model_file.table_tensors(fewer, "z"))

    def measured(self, name: str, value: float) -> Path:
        """Write the model with a measured tensor that has a value throughout."""
        shape, _ = model_file.optional_tensors(self.sealed.header.config)[name]
        assert shape is not None
        return self.tensors({name: torch.full(shape, value)})

    def integers(self, name: str, value: int) -> IntegerContextModel:
        """Build the integer networks of the model with a tensor that has a value throughout."""
        tensors = {**self.sealed.tensors, name: torch.full_like(self.sealed.tensors[name], value)}
        return IntegerContextModel(self.sealed.header.config, tensors)

    def seal_with(self, name: str, value: float) -> SealedCodec:
        """Seal the codec after one number of a parameter is replaced."""
        codec = copy.deepcopy(self.codec)
        with torch.no_grad():
            codec.get_parameter(name).flatten()[0] = value
        return seal(codec, {}, z_tables=model_file.tables_of(self.sealed.tensors, "z"))

    def with_extras(self, kind: int, body: bytes) -> object:
        """Read a file that has one section besides its stripe."""
        return unpack_extras(replace(self.container, extras={kind: body}), RGB)

    def decode(self, **changes: Any) -> object:
        """Decode a file after a change."""
        return PictureDecoder(self.sealed, replace(self.container, **changes)).decode()

    def decode_with_other_crc(self) -> object:
        """Decode a file after a change of the checksum of its latents."""
        (stripe,) = self.container.stripes
        return self.decode(stripes=(replace(stripe, latents_crc=stripe.latents_crc ^ 1),))

    def encode(self, target: Target, effort: int = 0) -> Container:
        """Encode a picture."""
        return PictureEncoder(self.sealed, RGB, effort).encode(target)

    def encode_with_broken_analysis(self) -> bytes:
        """Encode with a model whose analysis divides by zero."""
        unit = self.sealed.tensors["analysis.unit"]
        broken = SealedCodec(self.sealed.header, {**self.sealed.tensors, "analysis.unit": 0 * unit})
        return compress(broken, RGB)

    def one_level(self) -> SealedCodec:
        """Return the model with only its first level in its header."""
        header = copy.deepcopy(self.sealed.header)
        header.meta["encoder"]["rd_lambdas"] = [0.01]
        one = copy.copy(self.sealed)
        one.header = model_file.ModelHeader(header.meta)
        return one


Row = tuple[str, str, Callable[[World], object]]  # a message, a hint or "" for the default, and what causes them


def convolve(weight: int, channels: int = 1, shift: int = 0, columns: int = 1) -> IntegerConv2d:
    """Build an integer convolution of equal weights."""
    weights = torch.full((1, channels, 1, columns), weight, dtype=torch.int16)
    return IntegerConv2d({"weight": weights, "shift": torch.tensor([shift]), "bias": torch.tensor([0])}, 0)


def quantise(weight: float, bias: float) -> object:
    """Quantise a convolution of one weight, with 12 bits behind the point."""
    conv = nn.Conv2d(1, 1, 1)
    nn.init.constant_(conv.weight, weight)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, bias)
    twelve = torch.full((1,), 12, dtype=torch.uint8)
    return quantise_conv(conv, twelve, twelve)


def tables_with(weights: list[int], sizes: list[int], *lows: int) -> TableSet:
    """Check tables of these numbers."""
    return TableSet(Tables(*(np.array(values, dtype=np.int32) for values in (weights, sizes, lows))))


def read_symbols(data: bytes) -> None:
    """Read a stream of two symbols by the narrowest table."""
    reader = SymbolReader(data)
    reader.get(TableSet(gaussian_tables()), np.zeros(2, np.uint8))
    reader.finish()


def read_beyond_the_limit() -> None:
    """Read a symbol that its table holds although it is above the limit."""
    tables, index = tables_with([1, 1, (1 << 24) - 2], [3], 32767), np.zeros(1, np.uint8)
    writer = SymbolWriter()
    writer.put(tables, np.array([32768], np.int32), index)
    SymbolReader(writer.finish()).get(tables, index)
