"""Measure memory and speed on large pictures, what a region costs, and how strips compare with the whole picture.

    python scripts/check_large.py PICTURES [--model MODEL ...] [--megapixels 20 100] [--out results/large.json]

A large picture is made of the largest pictures of the folder, side by side. The commands compress and decompress run on
it in processes of their own, whose peak memory is measured, picture files included. Speed is that of pixels to the
bytes of a file and back, without picture files. A region is decoded at several random places of the largest picture.
On a picture of 12 megapixels, integer latents and PSNR are compared with those of a single strip.

Memory above 2 GiB or growing by more than 8 bytes a pixel, a region of 512 x 512 that takes 5 % of the time of the
whole picture, and strips that differ, are errors. So are less than 1.8 megapixels a second, of the first model.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.find_model import choose_model
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.coding.target import Target
from attncodec.container import Container, pack, unpack
from attncodec.environment import versions
from attncodec.files import write_atomic
from attncodec.metrics.psnr import psnr_db
from attncodec.networks.strips import STRIP_AREA, strip_spans
from attncodec.pictures import RGB, Region, find_pictures, picture_size, read_rgb

PEAK_GIB, GROWTH_BYTES, SPEED_MP_S, REGION_SHARE = 2.0, 8.0, 1.8, 0.05
DIFFERENT_LATENTS, DIFFERENT_DB = 1e-5, 1e-3
# What getrusage says of a child includes what its parent had before it became another program.
WRAPPED = """
import atexit, pathlib, sys
atexit.register(lambda: print(pathlib.Path("/proc/self/status").read_text(), file=sys.stderr))
from attncodec.cli import main
main()
"""
QUALITY, REGION, REGIONS, COMPARED_MP = 4, 512, 8, 12


def mosaic(paths: list[Path], pixels: int) -> RGB:
    """Lay pictures side by side, row by row, cropped to one height, until they fill a square of so many pixels."""
    side = round(pixels**0.5)
    rgb, row, number = np.empty((side, side, 3), np.uint8), 0, 0
    pictures = [read_rgb(path) for path in paths]
    height = min(len(picture) for picture in pictures)
    while row < side:
        column = 0
        while column < side:
            picture = pictures[number % len(pictures)]
            place = rgb[row : row + height, column : column + picture.shape[1]]
            place[:] = picture[: place.shape[0], : place.shape[1]]
            column, number = column + picture.shape[1], number + 1
        row += height
    return rgb


def measure_commands(model: Path, folder: Path, picture: Path) -> dict[str, float]:
    """Run both commands, and measure the peak memory of their processes in GiB."""
    atc, found = folder / "large.atc", dict[str, float]()
    for command, source, target in (("compress", picture, atc), ("decompress", atc, folder / "back.png")):
        arguments = [command, source, "-o", target, "-m", model, "--force"]
        run = subprocess.run([sys.executable, "-c", WRAPPED, *map(str, arguments)], capture_output=True, text=True)
        peak = re.search(r"VmHWM:\s+(\d+) kB", run.stderr)
        if run.returncode or not peak:
            raise SystemExit(f"{command} ended with {run.returncode}: {run.stderr}")
        found[f"{command}_peak_gib"] = int(peak[1]) / 2**20
    return found


def measure_speed(codec: SealedCodec, rgb: RGB) -> tuple[dict[str, float], Container]:
    """Measure how many megapixels a second are encoded and decoded."""
    start = time.perf_counter()
    container = PictureEncoder(codec, rgb).encode(Target(quality=QUALITY))
    data = pack(container)
    middle = time.perf_counter()
    PictureDecoder(codec, unpack(data)).decode()
    megapixels, end = rgb.shape[0] * rgb.shape[1] / 1e6, time.perf_counter()
    found = {"encode_mp_s": megapixels / (middle - start), "decode_mp_s": megapixels / (end - middle)}
    return {**found, "bpp": 8 * len(data) / rgb.shape[0] / rgb.shape[1]}, container


def measure_regions(codec: SealedCodec, container: Container, whole_s: float) -> dict[str, Any]:
    """Measure what regions at random places cost, as shares of the time of the whole picture."""
    rng, shares = np.random.default_rng(0), list[float]()
    for _ in range(REGIONS):
        x, y = (int(rng.integers(length - REGION)) for length in (container.width, container.height))
        start = time.perf_counter()
        PictureDecoder(codec, container).decode(Region(x, y, REGION, REGION))
        shares.append((time.perf_counter() - start) / whole_s)
    return {"side": REGION, "share_median": median(shares), "share_max": max(shares)}


def call_with(area: int, run: Callable[[int], Any]) -> Any:
    """Stand in for SealedCodec.in_memory."""
    return run(area)


def compare_strips(codec: SealedCodec, rgb: RGB) -> dict[str, float]:
    """Compare strips with a single one: the share of integer latents of y that differ, and the PSNR of both."""
    found, quality_index = [], codec.quality_index(QUALITY)
    count = len(list(strip_spans(codec.codec.analysis, slice(0, rgb.shape[0]), rgb.shape[1], STRIP_AREA)))
    for area in (STRIP_AREA, rgb.shape[0] * rgb.shape[1]):
        with patch.object(codec, "in_memory", partial(call_with, area)):
            encoder = PictureEncoder(codec, rgb)
            decoder = PictureDecoder(codec, encoder.write(quality_index))
            found.append((encoder.latents.y, decoder.read_latents().round(), psnr_db(rgb, decoder.decode()) or 99.0))
    (y, symbols, ours_db), (y_whole, symbols_whole, whole_db) = found
    return {
        "strips": count,
        "latents_differ": float((symbols != symbols_whole).float().mean()),
        "latents_error_max": float((y - y_whole).abs().max()),
        "psnr_db": ours_db,
        "psnr_of_one_strip_db": whole_db,
    }


def measure(model: Path, paths: list[Path], megapixels: list[int]) -> dict[str, Any]:
    """Measure all of it for a model."""
    codec = load_sealed(model)
    found: dict[str, Any] = {"decoder_id": codec.header.decoder_id.hex(), "sizes": []}
    with tempfile.TemporaryDirectory() as folder:
        for size in megapixels:
            rgb, picture = mosaic(paths, size * 10**6), Path(folder) / "large.jpg"
            Image.fromarray(rgb).save(picture, quality=95)
            speed, container = measure_speed(codec, rgb)
            row = {"width": rgb.shape[1], "height": rgb.shape[0], **speed}
            if size == max(megapixels):
                pixels = rgb.shape[0] * rgb.shape[1] / 1e6
                found["region"] = measure_regions(codec, container, pixels / speed["decode_mp_s"])
            del rgb, container
            found["sizes"].append({**row, **measure_commands(model, Path(folder), picture)})
            print(json.dumps(found["sizes"][-1]), flush=True)
    found["strips"] = compare_strips(codec, mosaic(paths, COMPARED_MP * 10**6))
    first, last = found["sizes"][0], found["sizes"][-1]
    pixels = last["width"] * last["height"] - first["width"] * first["height"]
    for command in ("compress", "decompress"):
        grown = last[f"{command}_peak_gib"] - first[f"{command}_peak_gib"]
        found[f"{command}_bytes_per_pixel"] = grown * 2**30 / max(pixels, 1)
    print(json.dumps({name: part for name, part in found.items() if name != "sizes"}), flush=True)
    return found


def problems_in(found: dict[str, Any], fast: bool) -> list[str]:
    """Return the bars that a model misses. `fast` says whether it must have the speed."""
    last, grown = found["sizes"][-1], [found[f"{command}_bytes_per_pixel"] for command in ("compress", "decompress")]
    peak = max(last["compress_peak_gib"], last["decompress_peak_gib"])
    bars = {
        f"peak of {peak:.2f} GiB": peak <= PEAK_GIB,
        f"growth of {max(grown):.2f} bytes a pixel": max(grown) <= GROWTH_BYTES,
        "speed": not fast or min(last["encode_mp_s"], last["decode_mp_s"]) >= SPEED_MP_S,
        "regions": found["region"]["share_median"] < REGION_SHARE,
        "latents of strips": found["strips"]["latents_differ"] <= DIFFERENT_LATENTS,
        "PSNR of strips": abs(found["strips"]["psnr_db"] - found["strips"]["psnr_of_one_strip_db"]) <= DIFFERENT_DB,
    }
    return [name for name, held in bars.items() if not held]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--megapixels", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--out", type=Path, default=Path("results/large.json"))
    options = parser.parse_args()
    sizes = {path: picture_size(path.read_bytes(), str(path)) for path in find_pictures(options.pictures)}
    paths = sorted(sizes, key=lambda path: (-sizes[path][0] * sizes[path][1], path.name))[:16]
    models = [choose_model(model) for model in options.model or [None]]
    found = {str(model): measure(model, paths, options.megapixels) for model in models}
    named = {name: {"name": Path(name).stem, **rest} for name, rest in found.items()}
    report = {"models": list(named.values()), "versions": versions("cpu")}
    write_atomic(options.out, (json.dumps(report, indent=2) + "\n").encode())
    missed = [f"{name}: {what}" for n, (name, rest) in enumerate(found.items()) for what in problems_in(rest, n == 0)]
    print("\n".join(missed), file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
