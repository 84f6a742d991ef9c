"""Measure what coding in stripes costs: bytes and PSNR beside those of the same picture as one stripe.

    python scripts/check_stripes.py PICTURES [--model MODEL] [--most 6] [--out results/stripes.json]

The largest pictures of the folder are measured, those of 2 megapixels or less left out, at qualities 1, 4 and 8 or
those that the model has. More than 0.5 % of rate, at any picture of 8 megapixels or more and any quality, is an error.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.find_model import choose_model, load_model
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.stripes import stripe_rows
from attncodec.container import STRIPE_AREA, pack, units_of
from attncodec.environment import versions
from attncodec.files import write_atomic
from attncodec.pictures import RGB, find_pictures, picture_size, read_rgb

LIMIT, LARGE = 0.005, 8_000_000
QUALITIES = (1, 4, 8)


def measure(codec: SealedCodec, rgb: RGB) -> list[dict[str, float]]:
    """Compare the files of a picture in stripes and in one, at each quality."""
    encoder, found = PictureEncoder(codec, rgb), []
    units = encoder.units
    for quality in QUALITIES:
        quality_index, sizes = codec.quality_index(min(quality, codec.quality_indices[-1] // 64)), []
        for height in (units, units_of(rgb.shape[0])):
            encoder.units, encoder.rows = height, stripe_rows(rgb.shape[0], height)
            sizes.append(len(pack(encoder.write(quality_index))))
        found.append({"quality": quality, "stripes": sizes[0], "one": sizes[1], "cost": sizes[0] / sizes[1] - 1})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--most", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("results/stripes.json"))
    options = parser.parse_args()
    codec, areas = load_model(choose_model(options.model)), dict[Path, int]()
    for path in find_pictures(options.pictures):
        width, height = picture_size(path.read_bytes(), str(path))
        areas[path] = width * height
    paths = sorted((path for path in areas if areas[path] > STRIPE_AREA), key=lambda path: -areas[path])
    found: dict[str, dict[str, Any]] = {}
    for path in paths[: options.most]:
        found[path.name] = {"pixels": areas[path], "files": measure(codec, read_rgb(path))}
        costs = ", ".join(f"{100 * file['cost']:+.2f} %" for file in found[path.name]["files"])
        print(f"{path.name}: {areas[path] / 1e6:.1f} megapixels, {costs}", flush=True)
    report = {"model": codec.header.decoder_id.hex(), "pictures": found, "versions": versions("cpu")}
    write_atomic(options.out, (json.dumps(report, indent=2) + "\n").encode())
    large = [file["cost"] for picture in found.values() if picture["pixels"] >= LARGE for file in picture["files"]]
    if not large or max(large) > LIMIT:
        print("there is no large picture, or stripes cost too much", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
