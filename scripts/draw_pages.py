"""Draw the pictures of README.md: the shipped model's curve on Kodak, and a sample picture beside JPEG.

python scripts/draw_pages.py SAMPLES    # the folder that scripts/samples.py wrote
"""

import json
import sys
import tempfile
from pathlib import Path

from side_by_side import main as side_by_side

import attncodec
from attncodec.evaluation.plot import draw_rd
from attncodec.files import write_atomic

ROOT = Path(__file__).absolute().parent.parent
IMAGES = ROOT / "docs" / "images"
QUALITY = 1.0  # differences to JPEG are plain to see here


def curve() -> None:
    run = json.loads((ROOT / "results" / "shipped" / "kodak" / "run.json").read_text())
    curves = {"attncodec": run["points"], **{name.upper(): points for name, points in run["classic"].items()}}
    points = {name: [(point["bpp"], point["psnr_db"]) for point in found] for name, found in curves.items()}
    draw_rd(IMAGES / "rd.png", points, "Kodak, 24 pictures, whole files")


def sample(original: Path) -> None:
    codec = attncodec.load()
    with tempfile.TemporaryDirectory() as folder:
        file, decoded = Path(folder) / "picture.atc", Path(folder) / "picture.png"
        write_atomic(file, codec.compress(original, quality=QUALITY))
        codec.decompress(file.read_bytes()).save(decoded)
        side_by_side(original, file, decoded, IMAGES / "side_by_side.png")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    curve()
    sample(Path(sys.argv[1]) / "test" / "coffee.png")
