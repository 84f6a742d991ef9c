import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from PIL import Image

HEIGHT, WIDTH = 3000, 4000
BYTES_PER_PIXEL = 8  # 4 in Pillow, 3 in the array, and 1 for bands and the interpreter
SCRIPT = """
import sys
from attncodec.pictures import decode_picture, encode_picture, read_picture

def memory(name):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(name))

small, *paths = sys.argv[1:]
for suffix in (".png", ".jpg", ".tif"):
    decode_picture(encode_picture(read_picture(small), suffix), "x")
before = memory("VmRSS")
for path in paths:
    picture = read_picture(path)
    print(path, (memory("VmHWM") - before) / picture.rgb.size * 3)
    del picture
"""


@pytest.mark.gate
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux says it")
def test_reading_takes_little_more_than_the_picture_twice(tmp_path: Path) -> None:
    tile = photo(HEIGHT // 10, WIDTH // 10)
    image = Image.fromarray(np.tile(tile, (10, 10, 1)))
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "a.png", compress_level=1)
    image.save(tmp_path / "b.jpg", quality=95, exif=turned)
    image.save(tmp_path / "c.ppm")
    image.save(tmp_path / "d.tif")
    image.convert("CMYK").save(tmp_path / "e.jpg")
    Image.fromarray(tile).save(tmp_path / "small.png")
    paths = [str(tmp_path / name) for name in ("small.png", "a.png", "b.jpg", "c.ppm", "d.tif", "e.jpg")]
    found = subprocess.run([sys.executable, "-c", SCRIPT, *paths], capture_output=True, text=True, check=True)
    for line in found.stdout.splitlines():
        assert float(line.split()[-1]) <= BYTES_PER_PIXEL, found.stdout
