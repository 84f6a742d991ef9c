"""What is in an .atc file or in a model file is said here."""

import os
from pathlib import Path
from typing import Any

from attncodec.coding.find_model import choose_model
from attncodec.coding.model_file import FORMAT, MEASURED_RANGES
from attncodec.coding.sealed import load_sealed
from attncodec.container import ALPHA, EXIF, ICC, MAGIC, RESOLUTION, XMP, unpack
from attncodec.files import STREAM, read_input
from attncodec.metrics.rate import bpp
from attncodec.quality import quality_of_index

EXTRA_NAMES = {ALPHA: "alpha", ICC: "icc", EXIF: "exif", XMP: "xmp", RESOLUTION: "resolution"}


def describe_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what is in an .atc file, or in a model (a file, a run folder, or the name of a shipped one), for JSON.

    Raises ContainerError or CheckpointError if it is neither.
    """
    path = Path(path)
    model = choose_model(path)
    data = read_input(model)
    if data.startswith(MAGIC) or path.suffix == ".atc" or path == STREAM:
        return {"file": str(path), **_of_picture(data)}
    return {"file": str(model), **_of_model(model, len(data))}


def _of_picture(data: bytes) -> dict[str, Any]:
    container = unpack(data)
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
