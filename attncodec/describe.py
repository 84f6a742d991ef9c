"""What is in an .atc file or in a model file is said here."""

import os
from pathlib import Path
from typing import Any

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.find_model import ModelCache, choose_model
from attncodec.coding.model_file import FORMAT, MEASURED_RANGES
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.container import ALPHA, EXIF, ICC, MAGIC, RESOLUTION, XMP, Container, unpack
from attncodec.errors import ContainerError
from attncodec.files import STREAM, as_path, read_input
from attncodec.metrics.rate import bpp
from attncodec.pictures import SUFFIXES
from attncodec.quality import quality_of_index

EXTRA_NAMES = {ALPHA: "alpha", ICC: "icc", EXIF: "exif", XMP: "xmp", RESOLUTION: "resolution"}


def describe_file(path: str | os.PathLike[str], models: ModelCache | None = None) -> dict[str, Any]:
    """Return what is in an .atc file, or in a model (a file, a run folder, or the name of a shipped one), for JSON.

    If `models` is given, it finds the model of an .atc file, and the SHA-256 of the file's latents is added. Raises
    ContainerError or CheckpointError if it is neither, or if the latents of a model are asked for.
    """
    path = as_path(path, "file")
    model = choose_model(path)
    data = read_input(model, ContainerError)
    if data.startswith(MAGIC) or path.suffix == ".atc" or path == STREAM:
        container = unpack(data)
        latents = {} if models is None else {"latents_sha256": latents_of(models.model_for(container), container)}
        return {"file": str(path), **_of_picture(data, container), **latents}
    if path.suffix.lower() in SUFFIXES:
        hint = "attncodec compress makes an .atc file of it"
        raise ContainerError(f"{path} is a picture, not an .atc file or a model", hint)
    if models is not None:
        raise ContainerError(f"{path} is not an .atc file, so it has no latents", "name an .atc file")
    return {"file": str(model), **_of_model(model, len(data))}


def latents_of(sealed: SealedCodec, container: Container) -> str:
    """Return the SHA-256, in hex, of the integer latents of an .atc file. Raises ContainerError if it is damaged."""
    decoder = PictureDecoder(sealed, container)
    decoder.read_latents()
    return decoder.latents_sha256


def _of_picture(data: bytes, container: Container) -> dict[str, Any]:
    bodies = [*(stripe.latents for stripe in container.stripes), *container.extras.values()]
    return {
        "format": f".atc version {data[len(MAGIC)]}",
        "width": container.width,
        "height": container.height,
        "quality": quality_of_index(container.quality_index),
        "bytes": len(data),
        "overhead_bytes": len(data) - sum(map(len, bodies)),
        "stripes": len(container.stripes),
        "bpp": bpp(len(data), container.width, container.height),
        "model": container.decoder_id.hex(),
        "grey": container.grey,
        "extras": {EXTRA_NAMES[kind]: len(body) for kind, body in container.extras.items()},
        "latents_crc": [f"{stripe.latents_crc:08x}" for stripe in container.stripes],
    }


def _of_model(path: Path, size: int) -> dict[str, Any]:
    from attncodec.networks.complexity import complexity  # torch's counter takes a second to import

    sealed = load_sealed(path)
    costs = complexity(sealed.header.config)
    return {
        "format": FORMAT,
        "model": sealed.header.decoder_id.hex(),
        "bytes": size,
        "measured": sorted(set(MEASURED_RANGES) & set(sealed.tensors)),
        "parameters": sum(count for _, count in costs.values()),
        "parts": {name: {"kmac_per_pixel": kmac, "parameters": count} for name, (kmac, count) in costs.items()},
        "config": sealed.header.config.model_dump(mode="json"),
        "training_info": sealed.header.training_info,
    }
