"""Train a shipped model by the committed recipe, in parts of any length, measure it, and install it.

    scripts/train_shipped PICTURES KODAK [--networks default] [--minutes 30] [--curves CURVES.json] [KEY=VALUE ...]

The recipe is the configuration `shipped`. The networks are those of the configuration NETWORKS, grown from the model
that is shipped now. `train.budget=3h` sets another budget, and any other KEY=VALUE works in the same way. A GPU is used
if there is one. With --minutes the run stops after that many minutes and is saved, as after Ctrl-C. The same command
continues it, even if it was interrupted after the training. Once the budget is spent,

    1. the sealed model is compared with the one that is shipped now, on the pictures that the run held out; if it is no
       better, nothing more is done, and the exit code is 1;
    2. it becomes attncodec/weights/NETWORKS.safetensors, and is measured on KODAK, by `attncodec eval`;
    3. results/shipped (results/shipped_large for the large networks) gets the curve, the files of the run, the BD-rates
       to published CURVES, and the figures of the model on flat graphics and on text;
    4. the model card, attncodec/weights/NETWORKS.md, is written from these (scripts/model_card.py).
"""

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from make_golden import graphic
from model_card import write_card
from PIL import Image, ImageDraw

from attncodec.coding.encoder import reconstruct
from attncodec.coding.model_file import read_header
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.coding.shipped import shipped
from attncodec.config import Config
from attncodec.config_file import dump_yaml, load_config
from attncodec.console import log_to_stderr
from attncodec.errors import AttncodecError, ConfigError
from attncodec.evaluation.records import Record, evaluate_picture
from attncodec.files import write_atomic
from attncodec.pictures import RGB, decode_rgb, encode_rgb, find_pictures
from attncodec.training import validation
from attncodec.training.data import centre
from attncodec.training.device import resolve_device
from attncodec.training.init_from import path_of
from attncodec.training.picture_set import find_sources
from attncodec.training.run_folder import RunFolder
from attncodec.training.train import train

HERE = Path(__file__).absolute().parent
ROOT = HERE.parent
RECIPE = "shipped"
RESULTS = {"default": Path("results/shipped"), "large": Path("results/shipped_large")}
NOT_BETTER = 1
LIMITS_AT = (2, 4, 6)  # qualities


def recipe(pictures: Path, networks: str, overrides: list[str]) -> Config:
    """Return the recipe with the given networks."""
    config = load_config(RECIPE, [f"data.train={pictures}", *overrides])
    of_model = [override for override in overrides if override.startswith("model.")]
    return config.model_copy(update={"model": load_config(networks, of_model).model})


def train_part(config: Config, run: Path, minutes: float | None) -> bool:
    """Train until the budget is spent or the minutes are over, and return whether the budget is spent."""
    timer = threading.Timer(60 * (minutes or 0), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    if minutes:
        timer.start()
    try:
        return train(config, run, resolve_device("auto")).progress.finished
    finally:
        timer.cancel()


def held_out_loss(config: Config, model: Path, run: RunFolder, pictures: Path) -> float:
    """Measure bpp + lambda 255^2 MSE of a sealed model, with its own rounding and tables, over three qualities."""
    with run.pictures.open(newline="", encoding="utf-8") as file:
        names = {row["name"] for row in csv.DictReader(file) if row["role"] == "held out"}
    sources = [source for source in find_sources(pictures) if source.name in names]
    held_out = [centre(decode_rgb(source.read(), source.name), validation.SIDE) for source in sources]
    points = validation.validate(config, partial(reconstruct, load_sealed(model)), held_out, lambda: False)
    assert points is not None
    return validation.mean_of(points).loss


def compare(config: Config, run: RunFolder, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Compare the new model with the shipped one of the same networks, or of the default ones if there is none."""
    before = shipped(options.networks) if shipped(options.networks).exists() else shipped()
    found: dict[str, dict[str, Any]] = {}
    for name, model in (("before", before), ("now", run.model)):
        loss = held_out_loss(config, model, run, options.pictures)
        found[name] = {"decoder_id": read_header(model).decoder_id.hex(), "loss": loss}
        print(f"{name}: loss {loss:.4f} on the held-out pictures", flush=True)
    return found


def text_page() -> RGB:
    """Draw a page of black text on white."""
    image = Image.new("RGB", (384, 256), "white")
    draw, rng = ImageDraw.Draw(image), np.random.default_rng(0)
    for y in range(10, 240, 14):
        words = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(9)]
        draw.text((12, y), " ".join(words), fill="black")
    return np.asarray(image)


def limits(codec: SealedCodec, folder: Path) -> list[Record]:
    """Measure the model on pictures that are no photographs, beside WebP and JPEG at no fewer bytes."""
    found = list[Record]()
    for name, rgb in (("flat graphic", graphic()), ("page of text", text_page())):
        path = folder / "picture.png"
        write_atomic(path, encode_rgb(rgb, ".png"))
        for quality in LIMITS_AT:
            found += evaluate_picture(codec, path, name, quality)
        path.unlink()
    return found


def install(options: argparse.Namespace, run: RunFolder, config: Config) -> bool:
    """Replace the model that is shipped now if the new one is better, and return whether it is."""
    model, comparison = shipped(options.networks), RESULTS[options.networks] / "comparison.json"
    if model.exists() and comparison.exists() and read_header(model).file_sha256 == read_header(run.model).file_sha256:
        return True  # an earlier call installed it and was interrupted later
    found = compare(config, run, options)
    if found["now"]["loss"] >= found["before"]["loss"]:
        return False
    origin = path_of(config)
    found["grown_from"] = {"decoder_id": read_header(origin).decoder_id.hex()} if origin == shipped() else {}
    comparison.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(comparison, (json.dumps(found, indent=2) + "\n").encode())
    write_atomic(model, run.model.read_bytes())
    return True


def finish(options: argparse.Namespace, run: RunFolder) -> int:
    """Compare, install, measure, and write the card; return the exit code."""
    config, results, model = load_config(run.config), RESULTS[options.networks], shipped(options.networks)
    if not install(options, run, config):
        print("the new model is no better than the shipped one: nothing was changed", file=sys.stderr)
        return NOT_BETTER
    data = config.data.model_copy(update={"train": Path(config.data.train).name})  # other machines have other paths
    write_atomic(results / "config.yaml", dump_yaml(config.model_copy(update={"data": data})).encode())
    for path in (run.pictures, run.metrics, run.rd_plot, run.path / "versions.json"):
        if path.exists():  # there is no plot without matplotlib
            shutil.copyfile(path, results / path.name)
    relative = str(model.relative_to(ROOT))
    evaluation = ["-m", "attncodec", "eval", str(options.kodak), "--model", relative, "--out", str(results / "kodak")]
    subprocess.run([sys.executable, *evaluation], check=True)
    if options.curves:
        published = [str(HERE / "compare_published.py"), str(results / "kodak" / "run.json"), str(options.curves)]
        subprocess.run([sys.executable, *published, "--out", str(results / "published.json")], check=True)
    else:
        (results / "published.json").unlink(missing_ok=True)  # it belongs to the previous model
    flaws = [record.row() for record in limits(load_sealed(model), results)]
    write_atomic(results / "limits.json", (json.dumps(flaws, indent=2) + "\n").encode())
    print(f"{relative}, {write_card(options.networks, results, options.pictures).relative_to(ROOT)}, {results}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of pictures to train on")
    parser.add_argument("kodak", type=Path, help="folder of pictures that are only measured")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--networks", choices=RESULTS, default="default")
    parser.add_argument("--minutes", type=float, help="length of this part; all that is left of the budget by default")
    parser.add_argument("--curves", type=Path, help="file of published curves, for scripts/compare_published.py")
    parser.add_argument("--run", type=Path, help="run folder; runs/shipped-NETWORKS by default")
    options = parser.parse_intermixed_args()
    for name in ("pictures", "kodak", "curves", "run"):
        if getattr(options, name):
            setattr(options, name, getattr(options, name).absolute())
    os.chdir(ROOT)
    log_to_stderr()
    try:
        find_pictures(options.kodak)  # this fails before the training, not after it
        if options.curves and not options.curves.is_file():
            raise ConfigError(f"there is no file {options.curves}", "--curves takes a file of published curves")
        config = recipe(options.pictures, options.networks, options.overrides)
        path = options.run or Path("runs") / f"shipped-{options.networks}"
        if not train_part(config, path, options.minutes):
            print(f"stopped and saved in {path}; run the same command again to continue")
            return 0
        return finish(options, RunFolder(path))
    except AttncodecError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
