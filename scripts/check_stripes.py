"""Measure what coding in stripes costs: bytes and PSNR beside those of the same picture as one stripe.

    python scripts/check_stripes.py PICTURES [--model MODEL] [--most 2] [--out results/stripes.json]

The largest pictures of the folder are cropped to one size and joined, two by two, to large ones, because photographs
of 12 megapixels are rare in collections. They are measured at qualities 1, 4 and 8 or those that the model has. More
than 0.5 % of rate, at any of them and any quality, is an error.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.find_model import choose_model, load_model
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.stripes import stripe_rows
from attncodec.container import pack, units_of
from attncodec.environment import versions
from attncodec.files import write_atomic
from attncodec.pictures import RGB, find_pictures, picture_size, read_rgb

LIMIT = 0.005
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


def joined(paths: list[Path]) -> RGB:
    """Join four pictures, cropped to the size that all have, to one of twice the height and width."""
    pictures = [read_rgb(path) for path in paths]
    height, width = (min(rgb.shape[axis] for rgb in pictures) for axis in (0, 1))
    cropped = [rgb[:height, :width] for rgb in pictures]
    return np.vstack([np.hstack(cropped[:2]), np.hstack(cropped[2:])])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--most", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/stripes.json"))
    options = parser.parse_args()
    codec = load_model(choose_model(options.model))
    sizes = {path: picture_size(path.read_bytes(), str(path)) for path in find_pictures(options.pictures)}
    paths = sorted(sizes, key=lambda path: (-sizes[path][0] * sizes[path][1], path.name))
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, 4 * options.most, 4):
        rgb = joined(paths[start : start + 4])
        name = " + ".join(path.stem for path in paths[start : start + 4])
        found[name] = {"width": rgb.shape[1], "height": rgb.shape[0], "files": measure(codec, rgb)}
        costs = ", ".join(f"{100 * file['cost']:+.2f} %" for file in found[name]["files"])
        print(f"{name}: {rgb.shape[0] * rgb.shape[1] / 1e6:.1f} megapixels, {costs}", flush=True)
    report = {"model": codec.header.decoder_id.hex(), "pictures": found, "versions": versions("cpu")}
    write_atomic(options.out, (json.dumps(report, indent=2) + "\n").encode())
    if max(file["cost"] for picture in found.values() for file in picture["files"]) > LIMIT:
        print("stripes cost too much", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
