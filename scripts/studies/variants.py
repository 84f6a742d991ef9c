"""Train and measure variants of a configuration, for the studies.

Variants are trained one after another, each in a process of its own, and measured on the pictures that their runs held
out, through real files.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any

from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import Target, compress
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.config_file import load_config
from attncodec.console import log_to_stderr
from attncodec.environment import git_commit, versions
from attncodec.files import write_atomic
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.metrics.rate import bd_rate, bpp
from attncodec.networks.complexity import complexity, each_way
from attncodec.pictures import RGB, read_rgb
from attncodec.training.data import centre

CONFIG = "default"
QUALITIES = (1, 3, 5, 8)
RESULT = "variant.json"
SIDE = 768  # held-out pictures are cropped to this at the centre
Results = dict[str, dict[str, Any]]
Variant = tuple[str, ...]  # overrides of the configuration


def train_and_measure(variant: Variant, config: str, pictures: Path, budget: str, run: Path) -> None:
    """Train and measure a variant; this runs in a process of its own, because the peak of its memory is measured."""
    from attncodec.device import resolve_device
    from attncodec.training.train import train as train_run

    log_to_stderr()
    overrides = [f"data.train={pictures}", f"train.budget={budget}", "train.validations=1", *variant]
    train_run(load_config(config, overrides), run, resolve_device("cpu"))
    peak_gib = peak_memory_gib()
    found = {**measure(run, pictures), "peak_gib": peak_gib, "git_commit": git_commit()}
    write_atomic(run / RESULT, json.dumps(found).encode())


def peak_memory_gib() -> float:
    """Return the most that this process ever held, as Linux counts it.

    getrusage would count the parent's memory, too: a child inherits its maximum.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024**2


def in_child(script: str, options: argparse.Namespace, name: str, run: Path) -> dict[str, Any]:
    """Run the same script again with `--train NAME`, and return what it measured."""
    arguments = [f"--{key}={value}" for key, value in vars(options).items() if key not in ("pictures", "train")]
    subprocess.run([sys.executable, script, str(options.pictures), *arguments, "--train", name], check=True)
    return json.loads((run / RESULT).read_text())


def held_out(run: Path, pictures: Path) -> list[RGB]:
    """Return the pictures that the run did not train on, cropped at the centre as in validation."""
    with (run / "pictures.csv").open() as file:
        names = [row["name"] for row in csv.DictReader(file) if row["role"] == "held out"]
    return [centre(read_rgb(pictures / name), SIDE) for name in names]


def measure(run: Path, pictures: Path) -> dict[str, Any]:
    """Measure points on the held-out pictures, as means over them, and what the variant costs."""
    codec = load_sealed(run / "model.safetensors")
    originals = held_out(run, pictures)
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    loss = [float(row["loss"]) for row in rows if row["kind"] == "sealed" and not row["quality"]]
    costs = complexity(codec.header.config)
    return {
        "points": [point(codec, originals, quality) for quality in QUALITIES],
        "loss": loss[-1],
        "steps": codec.header.training_info["steps"],
        "kmac_per_pixel": {part: kmac for part, (kmac, _) in costs.items()},
        "parameters": sum(count for _, count in costs.values()),
        "crops_per_s": median(float(row["crops_per_s"]) for row in rows if row["kind"] == "train"),
        "held_out": len(originals),
    }


def point(codec: SealedCodec, originals: list[RGB], quality: float) -> dict[str, float]:
    """Measure the mean bpp and PSNR of files of a quality."""
    rates_bpp, qualities_db = [], []
    for rgb in originals:
        data = compress(codec, rgb, Target(quality=quality))
        rates_bpp.append(bpp(len(data), rgb.shape[1], rgb.shape[0]))
        qualities_db.append(psnr_for_means_db(rgb, decompress(codec, data)))
    return {"quality": quality, "bpp": fmean(rates_bpp), "psnr_db": fmean(qualities_db)}


def change(reference: dict[str, Any], found: dict[str, Any]) -> str:
    """Return the BD-rate of a variant against another, as text."""
    curves = [[(point["bpp"], point["psnr_db"]) for point in result["points"]] for result in (reference, found)]
    percent = bd_rate(*curves)
    return "none in common" if percent is None else f"{percent:+.1f} %"


def costs_each_way(found: dict[str, Any]) -> str:
    """Return the kMAC/pixel of encoding (which runs the context networks, too) and of decoding, as text."""
    encode, decode = each_way(found["kmac_per_pixel"])
    return f"{encode:.1f} / {decode:.1f}"


def load_results(file: Path, settings: dict[str, Any]) -> Results:
    """Load the results of an earlier call with the same settings."""
    if not file.exists():
        return {}
    found = json.loads(file.read_text())
    if found["settings"] != settings:
        raise SystemExit(f"{file} was made with {found['settings']}: delete it, or give another --out")
    return found["variants"]


def save_results(file: Path, settings: dict[str, Any], results: Results) -> None:
    text = json.dumps({"settings": settings, "variants": results, "versions": versions("cpu")}, indent=2)
    write_atomic(file, (text + "\n").encode())


def compare(
    doc: str | None,
    script: str,
    variants: dict[str, Variant],
    out: Path,
    config: str = CONFIG,
    make_table: Callable[[Results, str], str] | None = None,
) -> None:
    """Run a script whose variants of a configuration are trained for equal time.

    The others are compared with the first. OUT gets the figures, in a file named as the folder, and table.md.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--only", default=",".join(variants), help="Names separated by commas; all by default.")
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--train", choices=variants, help=argparse.SUPPRESS)
    options = parser.parse_args()

    def run_of(name: str) -> Path:
        return Path("runs") / f"{Path(script).stem}-{name.replace(' ', '-')}"

    if options.train:
        budget = f"{round(options.minutes * 60)}s"
        return train_and_measure(variants[options.train], config, options.pictures, budget, run_of(options.train))
    options.out.mkdir(parents=True, exist_ok=True)
    file, settings = options.out / f"{options.out.name}.json", {"minutes": options.minutes}
    results = load_results(file, settings)
    for name in options.only.split(","):
        if name not in results:
            results[name] = in_child(script, options, name, run_of(name))
            save_results(file, settings, results)
            order = [name for name in variants if name in results]  # results of removed variants come last
            rows = {name: results[name] for name in [*order, *(name for name in results if name not in variants)]}
            write_atomic(options.out / "table.md", (make_table or table)(rows, next(iter(variants))).encode())
    print((options.out / "table.md").read_text())


def table(results: Results, reference: str) -> str:
    """Format the results as a Markdown table."""
    lines = [
        "| variant | steps | loss | BD-rate | kMAC/pixel each way | parameters |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results.items():
        compared = change(results[reference], found) if reference in results else "-"
        lines.append(
            f"| {name} | {found['steps']} | {found['loss']:.4f} | {compared} | {costs_each_way(found)} "
            f"| {found['parameters'] / 1e6:.1f} M |"
        )
    return "\n".join(lines) + "\n"
