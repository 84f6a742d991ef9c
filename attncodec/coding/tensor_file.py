"""Models and checkpoints are stored as tensors and canonical JSON in one safetensors file.

Such a file holds numbers only, so nothing in it can be executed. A pickle is refused. The JSON is stored under one
metadata key, because safetensors writes several keys in random order, and the bytes of the file would not repeat.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from attncodec.errors import CheckpointError

META_KEY = "attncodec"
SHOWN_MAX = 200


def to_bytes(tensors: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    """Return the bytes of the file. Equal contents have equal bytes."""
    return safetensors.torch.save(tensors, {META_KEY: canonical_json(meta)})


def read_format(path: Path) -> str:
    """Read the name of a file's format, or "" if it has none.

    Raises CheckpointError if the file is missing, or is not such a file.
    """
    meta = _read_json(path)
    return str(meta.get("format", "")) if isinstance(meta, dict) else ""


def read_meta(path: Path, form: str, hints: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read only the JSON.

    Raises CheckpointError if the file is missing, is not such a file, or if its "format" is not `form`. `hints` maps
    other formats to the hint that the error gives for them.
    """
    meta = _read_json(path)
    found = meta.get("format", "unknown") if isinstance(meta, dict) else "damaged"
    if found != form:
        raise CheckpointError(f"the format of {path} is {shown(found)}, not {form}", (hints or {}).get(str(found), ""))
    return dict(meta)


def shown(said: object) -> str:
    """Return what a file says as one line, not a long one, of characters that a terminal only shows."""
    text = str(said)
    short = text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in short)


def _read_json(path: Path) -> Any:
    if path.is_dir() or not path.exists():
        raise CheckpointError(f"there is no file {path}", "check the name; attncodec train makes DIR/model.safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(META_KEY, "{}")
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged, or not a safetensors file: {shown(error)}") from None


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        _refuse(text)
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a finite number")


def read_tensors(
    path: Path,
    expected: dict[str, tuple[list[int] | None, str]] | None = None,
    optional: dict[str, tuple[list[int] | None, str]] | None = None,
) -> dict[str, Tensor]:
    """Read all tensors.

    If `expected` is given, it is checked before anything is read. It maps names to a shape (None stands for one
    dimension of any length) and a dtype as safetensors names it. Tensors of `optional` may be missing, and are checked
    if they are there. Raises CheckpointError.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = set(file.keys())
            allowed = {**(expected or {}), **(optional or {})}
            for name in sorted(names | set(expected)) if expected is not None else []:
                if name not in names or name not in allowed:
                    known = "unknown" if name in names else "missing"
                    raise CheckpointError(f"{path}: tensor {shown(name)} is {known}")
                piece, (shape, dtype) = file.get_slice(name), allowed[name]
                found = list(piece.get_shape())
                if piece.get_dtype() != dtype or (len(found) != 1 if shape is None else found != shape):
                    raise CheckpointError(f"{path}: tensor {name} is {piece.get_dtype()} {found}, not {dtype} {shape}")
            tensors = {name: file.get_tensor(name) for name in sorted(names)}
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {shown(error)}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {shown(name)} has values that are not finite")
    return tensors


def sha256_of(tensors: dict[str, Tensor], preamble: str = "") -> "hashlib._Hash":
    """Compute the SHA-256 of the preamble, then of each tensor in order of name.

    It covers the name, dtype, shape and little-endian bytes of a tensor.
    """
    sha = hashlib.sha256(preamble.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        array = tensor.contiguous().numpy()
        sha.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return sha


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces, so that the same value always has the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
