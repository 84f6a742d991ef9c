"""This module measures models and classic codecs on the same pictures, and keeps every record until it is needed again.

The files of the models are real, and one is written at a time, so that its seconds are its own. Those of classic
codecs are written on all cores, at each of GRID.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import Target, compress
from attncodec.distributed import Distributed
from attncodec.environment import usable_cores, versions
from attncodec.errors import ImageError
from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.classic.codec import ClassicCodec
from attncodec.evaluation.classic.search import decode_file
from attncodec.evaluation.job import Job
from attncodec.evaluation.progress import FilesProgress
from attncodec.evaluation.records import Record, classic_record, measure_model
from attncodec.evaluation.store import Store
from attncodec.metrics import METRICS, figures
from attncodec.pictures import RGB, read_rgb
from attncodec.registry import contract
from attncodec.version import __version__


@dataclass(frozen=True)
class PictureFile:
    """A picture that was measured. `pixels_sha256` is over its size and its 8-bit RGB pixels."""

    name: str
    width: int
    height: int
    file_sha256: str
    pixels_sha256: str


@dataclass
class Measured:
    """What has been measured so far. `failed` has the reason for each picture that could not be measured."""

    pictures: dict[str, PictureFile] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    kept: int = 0  # the number of records that an earlier evaluation measured


def measure(
    job: Job,
    found: Measured,
    kept: Store,
    cache: Store,
    distributed: Distributed,
    on_failure: Callable[[Path, Exception], None],
) -> None:
    """Measure all, and fill `found`, which holds what was measured also if this is interrupted.

    With several processes, each measures its share of the pictures, and in the end all of them have all records. `kept`
    has the records of the models, and `cache` the figures of classic codecs. `on_failure` is called with each picture
    that cannot be measured, and the reason.
    """
    share, quiet, conditions = distributed.shard(job.paths), not distributed.is_rank0, versions(job.device.type)
    settings, warm = sum(len(model.qualities) for model in job.models), set[str]()
    with FilesProgress("models", len(share) * settings, quiet) as bar:
        for path in share:
            _attempt(job, path, found, on_failure, partial(_models, job, found, kept, conditions, warm, bar))
    settings = len(list(job.classic_settings()))
    with (
        FilesProgress("classic codecs", len(share) * settings, quiet) as bar,
        ThreadPoolExecutor(usable_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool,  # for MS-SSIM
    ):
        for path in share if settings else ():
            if job.name_of(path) not in found.failed:
                _attempt(job, path, found, on_failure, partial(_classic, job, found, cache, bar, pool))
    parts = distributed.collect([found])
    found.kept = sum(part.kept for part in parts)
    order = {job.name_of(path): number for number, path in enumerate(job.paths)}
    pictures = {name: file for part in parts for name, file in part.pictures.items()}
    found.pictures = {name: pictures[name] for name in order if name in pictures}
    found.failed = {name: reason for part in parts for name, reason in part.failed.items()}
    found.records = sorted((record for part in parts for record in part.records), key=lambda record: order[record.name])


def _attempt(
    job: Job,
    path: Path,
    found: Measured,
    on_failure: Callable[[Path, Exception], None],
    work: Callable[[RGB, str], None],
) -> None:
    """Read a picture and work on it. If that fails, drop its records, because no mean may have half of it."""
    name = job.name_of(path)
    try:
        rgb = read_rgb(path)
        (height, width), file_sha256 = rgb.shape[:2], hashlib.sha256(path.read_bytes()).hexdigest()
        file = PictureFile(name, width, height, file_sha256, pixels_sha256(rgb))
        if found.pictures.setdefault(name, file) != file:
            raise ImageError(f"{path} has changed since its first files were measured", "run the same command again")
        work(rgb, name)
    except Exception as error:  # Libraries raise whatever they like, and the other pictures need not suffer.
        found.failed[name] = " ".join(f"{error}".split())
        found.pictures.pop(name, None)
        found.records[:] = [record for record in found.records if record.name != name]
        on_failure(path, error)


def pixels_sha256(rgb: RGB) -> str:
    """Return the SHA-256 of the pixels of a picture, (H, W, 3) uint8, with its height and width before them."""
    height, width = rgb.shape[:2]
    digest = hashlib.sha256(f"{height} {width}\n".encode())
    digest.update(rgb.data if rgb.flags.c_contiguous else rgb.tobytes())
    return digest.hexdigest()


def _models(
    job: Job,
    found: Measured,
    kept: Store,
    conditions: dict[str, object],
    warm: set[str],
    bar: FilesProgress,
    rgb: RGB,
    name: str,
) -> None:
    """Measure a picture with all models. `warm` has those that have written a file before."""
    for model in job.models:
        for quality in model.qualities:
            depends_on = {
                "pixels_sha256": found.pictures[name].pixels_sha256,
                "model": model.sealed.header.file_sha256,
                "quality": quality,
                "effort": job.effort,
                "fast": job.fast,
                "metrics": list(METRICS),
                "versions": conditions,
            }
            value = kept.get(depends_on)
            if value is None or value.keys() != Record.__dataclass_fields__.keys():
                if model.name not in warm:  # What a first file takes to start is not its own.
                    decompress(model.sealed, compress(model.sealed, rgb, Target(quality)))
                    warm.add(model.name)
                record = measure_model(model.sealed, model.name, rgb, name, quality, job.effort)
                kept.put(depends_on, vars(record))
            else:
                record = Record(**{**value, "codec": model.name, "name": name})
                found.kept += 1
            found.records.append(record)
            bar.update()


def _classic(
    job: Job, found: Measured, cache: Store, bar: FilesProgress, pool: ThreadPoolExecutor, rgb: RGB, name: str
) -> None:
    pixels = found.pictures[name].pixels_sha256

    def work(kind: str, variant: str, quality: int) -> Record | None:
        with contract(f"the classic codec {kind!r}"):
            value = _figures_of_classic(CLASSIC[kind], variant, quality, rgb, pixels, cache)
        size = value["bytes"]
        return None if size is None else classic_record(kind, variant, quality, rgb, name, size, value["figures"])

    tasks = [pool.submit(work, *task) for task in job.classic_settings()]
    records = []
    try:
        for task in tasks:
            records.append(task.result())
            bar.update()
        found.records += [record for record in records if record]
    finally:
        for task in tasks:
            task.cancel()


def _figures_of_classic(
    codec: ClassicCodec, variant: str, quality: int, rgb: RGB, pixels: str, cache: Store
) -> dict[str, Any]:
    """Return the bytes of a file, None if the codec cannot write it, and its figures."""
    options = codec.variants[variant](quality)
    depends_on = {
        "attncodec": __version__,
        "format": codec.format,
        "library": codec.library,
        "metrics": list(METRICS),
        "options": options,
        "pixels_sha256": pixels,
    }
    value = cache.get(depends_on)
    if value is None:
        data = codec.encode(rgb, quality, codec.variants[variant])
        found = {} if data is None else figures(rgb, decode_file(codec, data, rgb))
        value = {"bytes": None if data is None else len(data), "figures": found}
        cache.put(depends_on, value)
    return value
