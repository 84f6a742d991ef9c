"""Show the original, the decoded picture and JPEG at equal bytes side by side, with a detail of each enlarged below.

python scripts/side_by_side.py ORIGINAL FILE.atc DECODED OUT.png
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from attncodec.evaluation.classic import CLASSIC
from attncodec.evaluation.classic.search import smallest_file
from attncodec.files import write_atomic
from attncodec.metrics.psnr import psnr_db
from attncodec.pictures import RGB, encode_rgb, read_rgb

LABEL_PX, GAP_PX = 28, 8
DETAIL, ZOOM = 1 / 3, 3  # the middle third of each side is enlarged to the picture's width


def panel(rgb: RGB, label: str) -> Image.Image:
    """Draw a picture under its label, with its middle enlarged below it."""
    height, width = rgb.shape[:2]
    dh, dw = int(height * DETAIL), int(width * DETAIL)
    detail = rgb[(height - dh) // 2 :, (width - dw) // 2 :][:dh, :dw]
    large = Image.fromarray(np.ascontiguousarray(detail)).resize((dw * ZOOM, dh * ZOOM), Image.Resampling.NEAREST)
    image = Image.new("RGB", (width, LABEL_PX + height + GAP_PX + large.height), "white")
    ImageDraw.Draw(image).text((4, 4), label, fill="black", font=ImageFont.load_default(size=18))
    image.paste(Image.fromarray(rgb), (0, LABEL_PX))
    image.paste(large, (0, LABEL_PX + height + GAP_PX))
    return image


def main(original: Path, file: Path, decoded: Path, out: Path) -> None:
    rgb, ours, size = read_rgb(original), read_rgb(decoded), file.stat().st_size
    theirs = smallest_file(CLASSIC["jpeg"], rgb, size)
    assert theirs is not None
    panels = [panel(rgb, f"original, {original.stat().st_size} bytes as PNG")]
    for name, picture, count in (("attncodec", ours, size), ("JPEG", theirs.decoded, len(theirs.data))):
        quality_db = psnr_db(rgb, picture)
        label = f"{name}, {count} bytes, " + ("lossless" if quality_db is None else f"{quality_db:.2f} dB")
        print(label)
        panels.append(panel(picture, label))
    width = sum(p.width for p in panels) + GAP_PX * (len(panels) - 1)
    canvas = Image.new("RGB", (width, panels[0].height), "white")
    left = 0
    for p in panels:
        canvas.paste(p, (left, 0))
        left += p.width + GAP_PX
    write_atomic(out, encode_rgb(np.array(canvas), out.suffix))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
