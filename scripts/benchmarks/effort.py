"""Measure what effort gains: seconds to encode, and BD-rate against effort 0, through real files.

    python scripts/benchmarks/effort.py PICTURES [--model MODEL] [--names kodim01 ...] [--out results/effort]

Each named picture is encoded at qualities 2, 4 and 6, from the start for each effort, and the seconds are those from
pixels to file. The BD-rate of a picture is over its own three points; the table holds means over pictures. A picture
whose figures exist is not measured again.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.find_model import choose_model, load_model
from attncodec.coding.refinement import REFINEMENT_SCHEDULES
from attncodec.coding.sealed import SealedCodec
from attncodec.container import pack
from attncodec.environment import versions
from attncodec.files import write_atomic
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.metrics.rate import bd_rate, bpp
from attncodec.pictures import find_pictures, read_rgb

NAMES = ("kodim01", "kodim05", "kodim08", "kodim15", "kodim20", "kodim23")
QUALITIES = (2, 4, 6)


def measure(codec: SealedCodec, path: Path) -> dict[str, list[dict[str, float]]]:
    """Measure a point for each quality, by effort."""
    rgb = read_rgb(path)
    points: dict[str, list[dict[str, float]]] = {str(effort): [] for effort in range(len(REFINEMENT_SCHEDULES))}
    for quality in QUALITIES:
        for effort in range(len(REFINEMENT_SCHEDULES)):
            start = time.perf_counter()
            container = PictureEncoder(codec, rgb, effort).encode(Target(quality=quality))
            spent_s = time.perf_counter() - start
            points[str(effort)].append(
                {
                    "quality": quality,
                    "bpp": bpp(len(pack(container)), rgb.shape[1], rgb.shape[0]),
                    "psnr_db": psnr_for_means_db(rgb, PictureDecoder(codec, container).decode()),
                    "encode_s": spent_s,
                }
            )
    return points


def table(pictures: dict[str, Any]) -> str:
    """Format the results as a Markdown table."""
    lines = ["| effort | rounds | seconds a picture | at most | BD-rate |", "| ---: | ---: | ---: | ---: | ---: |"]
    for effort in range(len(REFINEMENT_SCHEDULES)):
        changes, seconds = [], []
        for points in pictures.values():
            curves = [[(p["bpp"], p["psnr_db"]) for p in points[key]] for key in ("0", str(effort))]
            percent = bd_rate(*curves)
            assert percent is not None, "no PSNR in common"
            changes.append(percent)
            seconds += [p["encode_s"] for p in points[str(effort)]]
        rounds = REFINEMENT_SCHEDULES[effort].rounds
        lines.append(f"| {effort} | {rounds} | {fmean(seconds):.2f} | {max(seconds):.2f} | {fmean(changes):+.1f} % |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--out", type=Path, default=Path("results/effort"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    codec, file = load_model(choose_model(options.model)), options.out / "effort.json"
    result = json.loads(file.read_text()) if file.exists() else {}
    if result.get("decoder_id") != codec.header.decoder_id.hex():
        result = {"decoder_id": codec.header.decoder_id.hex(), "versions": versions("cpu"), "pictures": {}}
    paths = [path for path in find_pictures(options.pictures) if path.stem in options.names]
    PictureEncoder(codec, read_rgb(paths[0]), 1).encode(Target(quality=2))  # the first one chooses kernels
    for path in paths:
        if path.stem not in result["pictures"]:
            result["pictures"][path.stem] = measure(codec, path)
            write_atomic(file, (json.dumps(result, indent=2) + "\n").encode())
            write_atomic(options.out / "table.md", table(result["pictures"]).encode())
            print(table(result["pictures"]), flush=True)


if __name__ == "__main__":
    main()
