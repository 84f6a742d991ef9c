"""Compare with CompressAI's mbt2018-mean at equal time, on the same pictures and cores, by files of the test pictures.

    python scripts/benchmarks/equal_time.py PICTURES TEST_PICTURES [--minutes 20] [--out results/equal_time]

It trains one after the other, and nothing should run beside them:
  theirs        compressai's mbt2018-mean (N = 128, M = 192), lambda 0.0130, in a loop like its example script
                (usual_loop.py), batch 16 of 256 x 256, 2 workers
  ours          the configuration `default` with the same budget in time
  equal_crops   the configuration `default` with a budget in steps that shows it as many crops as theirs has seen
It writes the points of each, and our PSNR minus theirs at their mean bpp, interpolated on our curve and never
extrapolated. Their files are counted without a header. A step whose JSON or run exists is not done again.
"""

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from usual_loop import usual_batches, usual_training

from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import Target, compress
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.environment import versions
from attncodec.files import write_atomic
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.metrics.rate import bpp
from attncodec.pictures import find_pictures, pad_edges, read_rgb, to_rgb, to_tensor

BATCH, CROP, WORKERS = 16, 256, 2
CONFIG = "default"


def train_theirs(paths: list[Path], seconds: float) -> tuple[torch.nn.Module, int]:
    """Train until the time is out, and return the model and the number of crops that it saw."""
    from compressai.zoo import image_models

    torch.manual_seed(0)
    net = image_models["mbt2018-mean"](quality=4)  # N = 128, M = 192
    crops, _ = usual_training(net, usual_batches(paths, BATCH, CROP, WORKERS), seconds)
    return net, crops


def measure_theirs(net: torch.nn.Module, paths: list[Path]) -> dict[str, float]:
    """Measure mean bpp and PSNR over pictures, which are compressed to strings and decompressed."""
    net.eval()
    net.update(force=True)
    rates_bpp, qualities_db = [], []
    for path in paths:
        rgb = read_rgb(path)
        height, width = rgb.shape[:2]
        with torch.inference_mode():
            coded = net.compress(pad_edges(to_tensor(rgb), 64))
            decoded = net.decompress(coded["strings"], coded["shape"])["x_hat"][..., :height, :width]
        rates_bpp.append(bpp(sum(len(string) for (string,) in coded["strings"]), width, height))
        qualities_db.append(psnr_for_means_db(rgb, to_rgb(decoded)))
    return {"bpp": fmean(rates_bpp), "psnr_db": fmean(qualities_db)}


def ours(name: str, budget: str, pictures: Path, test: list[Path]) -> list[dict[str, float]]:
    """Train the configuration `default` into runs/bench-NAME and measure every whole level."""
    run = f"runs/bench-{name}"
    attncodec = [sys.executable, "-m", "attncodec"]
    options = [f"data.train={pictures}", f"train.budget={budget}", "train.validations=2"]
    subprocess.run([*attncodec, "train", "--config", CONFIG, "--out", run, *options], check=True)
    codec = load_sealed(Path(run) / "model.safetensors")
    return [measure_ours(codec, quality, test) for quality in range(1, len(codec.header.config.rd_lambdas) + 1)]


def measure_ours(codec: SealedCodec, quality: float, paths: list[Path]) -> dict[str, float]:
    """Measure mean bpp and PSNR over pictures, by the bytes of whole files, header included."""
    rates_bpp, qualities_db = [], []
    for path in paths:
        rgb = read_rgb(path)
        data = compress(codec, rgb, Target(quality=quality))
        rates_bpp.append(bpp(len(data), rgb.shape[1], rgb.shape[0]))
        qualities_db.append(psnr_for_means_db(rgb, decompress(codec, data)))
    return {"quality": quality, "bpp": fmean(rates_bpp), "psnr_db": fmean(qualities_db)}


def gain_db(curve: list[dict[str, float]], point: dict[str, float]) -> float | None:
    """Return our PSNR minus theirs at their bpp, on a curve over log bpp, or None where it would be extrapolated."""
    rates_bpp = np.array([p["bpp"] for p in curve])
    if not rates_bpp[0] <= point["bpp"] <= rates_bpp[-1]:
        return None
    here_db = np.interp(np.log(point["bpp"]), np.log(rates_bpp), [p["psnr_db"] for p in curve])
    return float(here_db - point["psnr_db"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("test_pictures", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/equal_time"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    test_paths = find_pictures(options.test_pictures)

    their_file = options.out / "theirs.json"
    if not their_file.exists():
        net, crops = train_theirs(find_pictures(options.pictures), options.minutes * 60)
        point = measure_theirs(net, test_paths)
        write_atomic(their_file, json.dumps({"crops": crops, **point, "minutes": options.minutes}, indent=2).encode())
    theirs = json.loads(their_file.read_text())

    budgets = {"ours": f"{round(options.minutes * 60)}s", "equal_crops": str(theirs["crops"] // our_batch())}
    curves = {name: ours(name, budget, options.pictures, test_paths) for name, budget in budgets.items()}
    result = {
        "theirs": theirs,
        **{name: {"budget": budgets[name], "points": curve} for name, curve in curves.items()},
        "gain_db": {name: gain_db(curve, theirs) for name, curve in curves.items()},
        "test_pictures": options.test_pictures.resolve().name,
        "versions": {**versions("cpu"), "compressai": version("compressai")},
    }
    write_atomic(options.out / "equal_time.json", (json.dumps(result, indent=2) + "\n").encode())
    print(json.dumps(result["gain_db"]))


def our_batch() -> int:
    from attncodec.config_file import load_config

    return load_config(CONFIG).train.batch


if __name__ == "__main__":
    main()
