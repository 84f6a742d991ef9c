"""Draw a picture of README.md: a sample picture beside JPEG.

python scripts/draw_pages.py SAMPLES    # the folder that scripts/samples.py wrote
"""

import sys
import tempfile
from pathlib import Path

from side_by_side import main as side_by_side

import attncodec
from attncodec.files import write_atomic

ROOT = Path(__file__).absolute().parent.parent
IMAGES = ROOT / "docs" / "images"
QUALITY = 1.0  # differences to JPEG are plain to see here


def sample(original: Path) -> None:
    codec = attncodec.load()
    with tempfile.TemporaryDirectory() as folder:
        file, decoded = Path(folder) / "picture.atc", Path(folder) / "picture.png"
        write_atomic(file, codec.compress(original, quality=QUALITY))
        codec.decompress(file.read_bytes()).save(decoded)
        side_by_side(original, file, decoded, IMAGES / "side_by_side.png")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    sample(Path(sys.argv[1]) / "test" / "coffee.png")
