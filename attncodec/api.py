"""Programs use the codec through this module.

codec = attncodec.load()             # this loads the shipped model; load("model.safetensors") loads another one
data = codec.compress("img.png")     # data has the bytes of an .atc file; pictures, images and arrays will do as well
image = codec.decompress(data)       # image is a Pillow image
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder, compress
from attncodec.coding.encoder import Target as Target
from attncodec.coding.find_model import ModelCache, choose_model, load_model
from attncodec.coding.model_file import FORMAT, MEASURED_RANGES
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.config import Config
from attncodec.config_file import load_config
from attncodec.configs import run_folder_of
from attncodec.container import ALPHA, EXIF, ICC, MAGIC, RESOLUTION, XMP, pack, unpack
from attncodec.errors import CheckError, ConfigError, ContainerError, ImageError
from attncodec.files import STREAM, read_input, write_output
from attncodec.metrics.psnr import psnr_db
from attncodec.metrics.rate import bpp
from attncodec.pictures import Picture, encode_picture, from_image, read_picture, stripped, to_image
from attncodec.pictures.writing import check_suffix, keeps_alpha
from attncodec.quality import quality_of_index

if TYPE_CHECKING:
    from attncodec.training.progress import Report
    from attncodec.training.train import Outcome


Source = Picture | Image.Image | NDArray[np.uint8] | str | os.PathLike[str]
EXTRA_NAMES = {ALPHA: "alpha", ICC: "icc", EXIF: "exif", XMP: "xmp", RESOLUTION: "resolution"}


class Codec:
    """A sealed model that writes and reads files."""

    def __init__(self, sealed: SealedCodec) -> None:
        self.sealed = sealed

    def compress(
        self,
        picture: Source,
        quality: float | None = None,
        target_bpp: float | None = None,
        target_bytes: int | None = None,
        target_psnr_db: float | None = None,
        effort: int = 0,
        strip: bool = False,
    ) -> bytes:
        """Encode a picture to the bytes of an .atc file.

        `picture` is a path, a Pillow image, a Picture, or an array of uint8: (H, W) grey, (H, W, 3) RGB or (H, W, 4)
        RGBA. At most one of `quality`, 1 to 8 for the shipped model, and the targets is given; a target in bpp or bytes
        gives the best file that is not larger, one in dB the smallest that reaches it. A higher `effort`, 0 to 3, gives
        smaller or better files and takes the encoder longer. `strip` converts to sRGB and drops profile and metadata.

        Raises ImageError for a picture that cannot be read, and ConfigError if the quality is out of range or the
        target cannot be reached.
        """
        wish = target_of(quality, target_bytes, target_bpp, target_psnr_db)
        found = as_picture(picture)
        return compress(self.sealed, stripped(found) if strip else found, wish, effort)

    def decompress(self, data: bytes) -> Image.Image:
        """Decode the bytes of an .atc file to a Pillow image of mode L, LA, RGB or RGBA, with its metadata in `info`.

        Raises ContainerError if the file is damaged, or if another model wrote it.
        """
        return to_image(PictureDecoder(self.sealed, unpack(data)).decode_picture())


def as_picture(source: Source) -> Picture:
    """Convert what `Codec.compress` takes to a picture. Raises ImageError."""
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        return from_image(source)
    if isinstance(source, np.ndarray):
        channels = source.shape[2:] if source.ndim in (2, 3) else None
        if source.dtype != np.uint8 or channels not in ((), (3,), (4,)):
            shape = f"{source.dtype} {source.shape}"
            raise ImageError(f"an array of {shape} is not a picture", "give uint8 (H, W), (H, W, 3) or (H, W, 4)")
        return from_image(Image.fromarray(source))
    return read_picture(source)


def target_of(
    quality: float | None, target_bytes: int | None, target_bpp: float | None, target_psnr_db: float | None
) -> Target:
    """Return the target that is given. Raises ConfigError if there are several."""
    if sum(value is not None for value in (quality, target_bpp, target_bytes, target_psnr_db)) > 1:
        raise ConfigError("a quality and a target, or several targets, cannot be combined", "give only one of them")
    return Target(quality, target_bytes, target_bpp, target_psnr_db)


def load(model: str | os.PathLike[str] | None = None, fast: bool = False) -> Codec:
    """Load a model from a file, a run folder, or the name of a shipped model, or else load the default one.

    If `fast`, the transforms run in bfloat16. Raises CheckpointError if there is no such model or it is damaged.
    """
    return Codec(load_model(choose_model(None if model is None else Path(model)), fast))


def train(
    config: Config | str | os.PathLike[str],
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    restart: bool = False,
    extend: str | None = None,
    on_progress: "Callable[[Report], None] | None" = None,
) -> "Outcome":
    """Train a codec, or continue a run that was stopped. The result names the model file: `load(outcome.model)`.

    `config` is the name of a shipped configuration, a YAML file, or a Config, and `overrides` are such as
    `data.train=photos/`. `out` is the run folder; if it is not given, it lies in `runs/` and is called as the last part
    of that name. `device` is auto, cpu or cuda, `restart` starts the run over, and `extend` trains a finished run for
    longer, `2h` or a number of steps. `on_progress` is called with a Report every few steps.

    Raises ConfigError, CheckpointError, and TrainingError if the loss keeps diverging or the disk is full.
    """
    from attncodec.budget import budget_of_option
    from attncodec.training.device import resolve_device
    from attncodec.training.train import train as train_run

    if isinstance(config, Config):
        if out is None or overrides:
            raise ConfigError("a Config needs a run folder, and takes no overrides", "give out, or the name of a file")
        resolved, folder = config, Path(out)
    else:
        resolved = load_config(os.fspath(config), overrides)
        folder = Path(out) if out is not None else run_folder_of(Path(config))
    extension = budget_of_option("extend", extend)
    return train_run(resolved, folder, resolve_device(device), restart, extension, on_progress=on_progress)


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads; None keeps torch's default."""
    if threads is not None:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Compressed:
    """The result of compressing a picture file.

    `psnr_db` is that of the written file if it was verified, infinite if it is lossless, and None otherwise.
    """

    bytes: int
    bpp: float
    latents_sha256: str
    psnr_db: float | None = None
    notes: tuple[str, ...] = ()


def compress_file(
    sealed: SealedCodec,
    source: Path,
    out: Path,
    target: Target,
    effort: int = 0,
    verify: bool = False,
    strip: bool = False,
) -> Compressed:
    """Compress a picture file into an .atc file; `-` is stdin or stdout.

    If `verify`, the written file is decoded and compared. `strip` drops profile and metadata. Raises an AttncodecError:
    ImageError for the picture, ConfigError if the target cannot be reached, and CheckError if the file does not decode
    as it should.
    """
    picture = read_picture(source)
    picture = stripped(picture) if strip else picture
    encoder = PictureEncoder(sealed, picture, effort)
    container = encoder.encode(target)
    data = pack(container)
    write_output(out, data)
    quality_db = None
    if verify:
        try:
            decoded = PictureDecoder(sealed, unpack(data if out == STREAM else read_input(out))).decode_picture()
        except ContainerError as error:
            raise CheckError(f"{out} does not decode: {error}") from None
        expected = replace(picture, rgb=encoder.reconstruct(container)[0], notes=())
        if not _equal(decoded, expected):
            raise CheckError(f"{out} decodes to a different picture than the encoder computed")
        found_db = psnr_db(encoder.rgb, decoded.rgb)
        quality_db = float("inf") if found_db is None else found_db
    rate_bpp = bpp(len(data), picture.width, picture.height)
    return Compressed(len(data), rate_bpp, encoder.latents_sha256, quality_db, picture.notes)


def _equal(ours: Picture, theirs: Picture) -> bool:
    """Say whether two pictures are equal: pixels, alpha and metadata. A file keeps a resolution in float32."""
    alphas = [np.empty(0, np.uint8) if picture.alpha is None else picture.alpha for picture in (ours, theirs)]
    kept = [
        (picture.grey, picture.icc, picture.exif, picture.xmp, np.array(picture.dpi or (), np.float32).tolist())
        for picture in (ours, theirs)
    ]
    return kept[0] == kept[1] and np.array_equal(ours.rgb, theirs.rgb) and np.array_equal(alphas[0], alphas[1])


@dataclass(frozen=True)
class Decompressed:
    """The result of decompressing an .atc file, and the model that wrote the file."""

    width: int
    height: int
    sealed: SealedCodec
    notes: tuple[str, ...] = ()


def decompress_file(models: ModelCache, source: Path, out: Path) -> Decompressed:
    """Decompress an .atc file into a picture file, PNG unless the suffix names another format; `-` is a stream.

    Raises ContainerError, CheckpointError if there is no model for the file, and ImageError if the picture cannot be
    written.
    """
    check_suffix(out)
    container = unpack(read_input(source))
    sealed = models.model_for(container)
    picture = PictureDecoder(sealed, container).decode_picture()
    suffix = ".png" if out == STREAM else out.suffix
    write_output(out, encode_picture(picture, suffix))
    lost = picture.alpha is not None and not keeps_alpha(suffix)
    paper = (f"'{suffix}' has no transparency, so the picture lies on white",) if lost else ()
    return Decompressed(picture.width, picture.height, sealed, (*picture.notes, *paper))


def latents_sha256(data: bytes, models: ModelCache) -> str:
    """Return the SHA-256, in hex, of the integer latents of an .atc file. It is the same on every machine."""
    container = unpack(data)
    decoder = PictureDecoder(models.model_for(container), container)
    decoder.read_latents()
    return decoder.latents_sha256


def describe_file(path: Path) -> dict[str, Any]:
    """Return what is in an .atc file, or in a model (a file, a run folder, or the name of a shipped one), for JSON.

    Raises ContainerError or CheckpointError if it is neither.
    """
    model = choose_model(path)
    data = read_input(model)
    if data.startswith(MAGIC) or path.suffix == ".atc" or path == STREAM:
        container = unpack(data)
        bodies = [*(stripe.latents for stripe in container.stripes), *container.extras.values()]
        return {
            "file": str(path),
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
    from attncodec.networks.complexity import complexity  # torch's counter takes a second to import

    sealed = load_sealed(model)
    costs = complexity(sealed.header.config)
    return {
        "file": str(model),
        "format": FORMAT,
        "model": sealed.header.decoder_id.hex(),
        "bytes": len(data),
        "measured": sorted(set(MEASURED_RANGES) & set(sealed.tensors)),
        "parameters": sum(count for _, count in costs.values()),
        "parts": {name: {"kmac_per_pixel": kmac, "parameters": count} for name, (kmac, count) in costs.items()},
        "config": sealed.header.config.model_dump(mode="json"),
        "training_info": sealed.header.training_info,
    }
