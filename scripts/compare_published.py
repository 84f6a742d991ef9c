"""Compute BD-rates of an evaluation against published curves.

    python scripts/compare_published.py results/shipped/kodak/run.json [CURVES.json] [--out FILE]

scripts/train_shipped wrote the first file; what `attncodec eval` writes has these BD-rates already. The second holds
{"curves": {NAME: {"title", "source", "bpp": [...], "psnr_db": [...]}}}, with means over the same pictures, and is
attncodec/evaluation/kodak.json if none is given. The BD-rate is over the PSNR that both curves reach; a negative one
means fewer bits than the published codec at equal PSNR.
"""

import argparse
import json
from pathlib import Path

from attncodec.evaluation.published import kodak
from attncodec.files import write_atomic
from attncodec.metrics.rate import bd_rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("curves", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("results/shipped/published.json"))
    options = parser.parse_args()
    points = json.loads(options.evaluation.read_text())["points"]
    ours = [(point["bpp"], point["psnr_db"]) for point in points]
    found = {}
    curves = json.loads(options.curves.read_text()) if options.curves else kodak()
    for name, curve in curves["curves"].items():
        percent = bd_rate(list(zip(curve["bpp"], curve["psnr_db"], strict=True)), ours)
        found[name] = {"title": curve["title"], "source": curve["source"], "bd_rate_percent": percent}
        print(f"| {curve['title']} | " + ("none in common |" if percent is None else f"{percent:+.1f} % |"))
    result = {"evaluation": str(options.evaluation), "against": found}
    write_atomic(options.out, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
