"""Programs use the codec through this module.

codec = attncodec.load()             # this loads the shipped model; load("model.safetensors") loads another one
data = codec.compress("img.png")     # data has the bytes of an .atc file; pictures, images and arrays will do as well
image = codec.decompress(data)       # image is a Pillow image
"""

import os
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from attncodec.coding.decoder import decode_file
from attncodec.coding.encoder import PictureEncoder, compress
from attncodec.coding.find_model import ModelCache, choose_model, load_model
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.target import Target as Target
from attncodec.config import Config
from attncodec.config_file import load_config
from attncodec.configs import run_folder_of
from attncodec.container import MAX_PIXELS, Container, check_max_pixels, pack, unpack
from attncodec.describe import describe_file as describe_file
from attncodec.describe import latents_of
from attncodec.device import resolve_device
from attncodec.errors import CheckError, ConfigError, ContainerError
from attncodec.files import STREAM, as_path, is_stream, read_input, write_output
from attncodec.metrics.psnr import psnr_db
from attncodec.metrics.rate import bpp
from attncodec.pictures import Picture, check_suffix, read_picture, save_picture, stripped, to_image
from attncodec.pictures.sources import Bytes, Source, as_picture
from attncodec.pictures.writing import lost_in

if TYPE_CHECKING:
    from attncodec.training.progress import Report
    from attncodec.training.train import Outcome

THREADS_MAX = 1024  # with many more, OpenMP ends the process


class Codec:
    """A sealed model that writes and reads files."""

    def __init__(self, sealed: SealedCodec) -> None:
        self.sealed = _sealed_of(sealed)

    def compress(
        self,
        picture: Source,
        quality: float | None = None,
        target_bpp: float | None = None,
        target_bytes: int | None = None,
        target_psnr_db: float | None = None,
        effort: int = 0,
        strip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> bytes:
        """Encode a picture to the bytes of an .atc file.

        `picture` is a path, the bytes of a picture file or an open one, a Pillow image, a Picture, or an array of
        uint8: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA. At most one of `quality`, 1 to 8 for the shipped model, and
        the targets is given; a target in bpp or bytes gives the best file that is not larger, one in dB the smallest
        that reaches it. A higher `effort`, 0 to 3, gives smaller or better files and takes the encoder longer. `strip`
        converts to sRGB and drops profile and metadata. A picture of more than `max_pixels`, both sides rounded up to
        multiples of 64, is refused.

        Raises ImageError for a picture that cannot be read, and ConfigError for a number that is none, a quality or
        effort out of range, or a target that cannot be reached.
        """
        check_effort(effort)
        wish = Target(quality, target_bytes, target_bpp, target_psnr_db)
        found = as_picture(picture, check_max_pixels(max_pixels))
        return compress(self.sealed, stripped(found) if strip else found, wish, effort)

    def decompress(
        self,
        data: Bytes,
        region: tuple[int, int, int, int] | None = None,
        salvage: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Image.Image:
        """Decode the bytes of an .atc file to a Pillow image of mode L, LA, RGB or RGBA, with its metadata in `info`.

        `region`, as (x, y, width, height), decodes those pixels alone, and takes little more time than they need. If
        `salvage`, what is left of a damaged file is decoded. `info` then has `missing_rows`, which are grey, and
        `coarse_rows`, which lack details because the file ends within them: lists of (first, last + 1), counted in the
        image that is returned.

        Raises ContainerError if the file is damaged, if another model wrote it, or if it has more than `max_pixels`,
        both sides rounded up to multiples of 64, and ConfigError for a region that is not within the picture.
        """
        found = decode_file(_as_bytes(data), lambda container: self.sealed, region, salvage, max_pixels)
        image = to_image(found.picture)
        if salvage:
            image.info |= {"missing_rows": list(found.missing_rows), "coarse_rows": list(found.coarse_rows)}
        return image


def _as_bytes(data: Bytes) -> bytes:
    if not isinstance(data, Bytes):
        raise ContainerError(f"{type(data).__name__} is not the bytes of an .atc file", "read the file first")
    return bytes(data)


def check_effort(effort: int) -> None:
    """Raise ConfigError unless an effort is an integer. Which ones there are is checked with the picture."""
    if not isinstance(effort, Integral) or isinstance(effort, bool):
        raise ConfigError(f"an effort must be an integer, not {reprlib.repr(effort)}", "choose one from 0 to 3")


def load(model: str | os.PathLike[str] | None = None, fast: bool = False, device: str = "cpu") -> Codec:
    """Load a model from a file, a run folder, or the name of a shipped model, or else load the default one.

    If `fast`, the transforms run in bfloat16. They run on `device`: cpu, cuda, or auto, which is cuda where there is
    one. Raises CheckpointError if there is no such model or it is damaged, and ConfigError for another device.
    """
    path = choose_model(None if model is None else as_path(model, "model"))
    return Codec(load_model(path, fast, resolve_device(device)))


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
    from attncodec.training.arguments import check_arguments
    from attncodec.training.train import train as train_run

    check_arguments(config=config, overrides=overrides, restart=restart, extend=extend, on_progress=on_progress)
    folder = None if out is None else as_path(out, "run folder")
    if isinstance(config, Config):
        if folder is None or overrides:
            raise ConfigError("a Config needs a run folder, and takes no overrides", "give out, or the name of a file")
        resolved = config
    else:
        path = as_path(config, "configuration")
        resolved, folder = load_config(path, overrides), folder or run_folder_of(path)
    extension = budget_of_option("extend", extend)
    return train_run(resolved, folder, resolve_device(device), restart, extension, on_progress=on_progress)


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads; None keeps torch's default. Raises ConfigError for a number out of range."""
    if threads is None:
        return
    if not isinstance(threads, Integral) or isinstance(threads, bool) or not 1 <= threads <= THREADS_MAX:
        text = f"the number of threads must be an integer from 1 to {THREADS_MAX}, not {reprlib.repr(threads)}"
        raise ConfigError(text, "all cores are used if none is given")
    torch.set_num_threads(int(threads))


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
    codec: Codec | SealedCodec,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    target: Target,
    effort: int = 0,
    verify: bool = False,
    strip: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Compressed:
    """Compress a picture file into an .atc file; `-` is stdin or stdout. `codec` is what `load` returns.

    If `verify`, the written file is decoded and compared. `strip` drops profile and metadata. `max_pixels` limits the
    picture, both sides rounded up to multiples of 64. Raises an AttncodecError:
    ImageError for the picture, ConfigError if the target cannot be reached, OutputError if the file cannot be written,
    and CheckError if it does not decode as it should.
    """
    check_effort(effort)
    if not isinstance(target, Target):
        raise ConfigError(f"{reprlib.repr(target)} is not a Target", "give one, such as attncodec.Target(quality=4)")
    sealed, out = _sealed_of(codec), as_path(out, "compressed file")
    picture = read_picture(as_path(source, "picture"), check_max_pixels(max_pixels))
    picture = stripped(picture) if strip else picture
    encoder = PictureEncoder(sealed, picture, effort)
    container = encoder.encode(target)
    data = pack(container)
    write_output(out, data)
    quality_db = None
    if verify:
        written = data if is_stream(out) else read_input(out, CheckError)
        try:
            back = decode_file(written, lambda container: sealed, max_pixels=max_pixels).picture
        except ContainerError as error:
            raise CheckError(f"{out} does not decode: {error}") from None
        expected = replace(picture, rgb=encoder.reconstruct(container)[0], notes=())
        if not _equal(back, expected):
            raise CheckError(f"{out} decodes to a different picture than the encoder computed")
        found_db = psnr_db(encoder.rgb, back.rgb)
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
    """The result of decompressing an .atc file, and the model that wrote the file.

    If a part of the file is damaged or lost, `missing_rows`, each (first, last + 1), are grey, and `coarse_rows` lack
    details.
    """

    width: int
    height: int
    sealed: SealedCodec
    notes: tuple[str, ...] = ()
    missing_rows: tuple[tuple[int, int], ...] = ()
    coarse_rows: tuple[tuple[int, int], ...] = ()


def decompress_file(
    models: ModelCache | Codec | SealedCodec,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    region: tuple[int, int, int, int] | None = None,
    salvage: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Decompressed:
    """Decompress an .atc file into a picture file, PNG unless the suffix names another format; `-` is a stream.

    A ModelCache finds the model of each file; a codec decodes the files of its own. The notes say what the format of
    the picture file does not hold. `region`, `salvage` and `max_pixels` are those of `Codec.decompress`.

    Raises ContainerError, CheckpointError if there is no model for the file, ImageError if the format of the picture
    cannot be written, and OutputError if the file cannot.
    """
    out = as_path(out, "picture")
    check_suffix(out)
    data = read_input(as_path(source, "compressed file"), ContainerError)
    found = decode_file(data, lambda container: _model_for(models, container), region, salvage, max_pixels)
    picture, suffix = found.picture, ".png" if out == STREAM else out.suffix
    write_output(out, lambda file: save_picture(picture, suffix, file))
    notes = (*picture.notes, *lost_in(picture, suffix))
    damage = (found.missing_rows, found.coarse_rows)
    return Decompressed(picture.width, picture.height, found.sealed, notes, *damage)


def latents_sha256(data: Bytes, models: ModelCache | Codec | SealedCodec) -> str:
    """Return the SHA-256, in hex, of the integer latents of an .atc file. It is the same on every machine."""
    container = unpack(_as_bytes(data))
    return latents_of(_model_for(models, container), container)


def _model_for(models: ModelCache | Codec | SealedCodec, container: Container) -> SealedCodec:
    return models.model_for(container) if isinstance(models, ModelCache) else _sealed_of(models)


def _sealed_of(codec: Codec | SealedCodec) -> SealedCodec:
    if not isinstance(codec, Codec | SealedCodec):
        raise ConfigError(f"{reprlib.repr(codec)} is not a codec", "attncodec.load() returns one")
    return codec.sealed if isinstance(codec, Codec) else codec
