"""Make the golden files of container version 1: what a small sealed model wrote, and what it decodes to.

    python scripts/make_golden.py SAMPLES

SAMPLES is the folder that scripts/samples.py made. The model is tests/data/levels/tiny.safetensors. The files were made
once and are never made again: files of version 1 decode for ever, and the tests decode the ones that are committed. The
files beside tests/data/version_1 are of version 0, and were made at commit e7468bc.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageDraw

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.sealed import load_sealed
from attncodec.coding.stripes import stripe_rows
from attncodec.container import pack
from attncodec.files import write_atomic
from attncodec.pictures import RGB, Picture, encode_picture, read_rgb
from attncodec.pictures.metadata import EXIF_PREFIX

DATA = Path("tests/data")


def graphic() -> RGB:
    """Draw flat colours and lines, which no photograph has."""
    image = Image.new("RGB", (150, 90), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 10, 60, 50), fill=(200, 30, 40))
    draw.ellipse((50, 30, 140, 85), fill=(20, 90, 200))
    for x in range(0, 150, 7):
        draw.line((x, 0, 149 - x, 89), fill=(0, 0, 0))
    return np.asarray(image)


def pictures(coffee: RGB) -> dict[str, Picture]:
    """Return a picture of each kind, by name."""
    alpha = np.zeros((90, 150), np.uint8)
    alpha[10:80, 20:130] = 255
    alpha[80:] = np.arange(150)
    exif = Image.Exif()
    exif[0x013B] = "attncodec"
    grey = np.repeat(coffee[50:150, 200:330, 1:2], 3, axis=2)
    return {
        "plain": Picture(coffee[100:260, 180:404]),
        "alpha": Picture(graphic(), alpha),
        "metadata": Picture(
            coffee[200:264, 300:364],
            icc=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
            exif=exif.tobytes().removeprefix(EXIF_PREFIX),
            xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
            dpi=(300.0, 300.0),
        ),
        "stripes": Picture(coffee[20:200, 200:300]),
        "grey": Picture(grey, grey=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    options = parser.parse_args()
    codec, out, latents = load_sealed(DATA / "levels" / "tiny.safetensors"), DATA / "version_1", {}
    out.mkdir(exist_ok=True)
    for name, picture in pictures(read_rgb(options.samples / "test" / "coffee.png")).items():
        encoder = PictureEncoder(codec, picture)
        if name == "stripes":  # of 64 rows, which a picture of this size would not have by itself
            encoder.units, encoder.rows = 1, stripe_rows(picture.height, 1)
        container = encoder.encode(Target(quality=2))
        data, decoder = pack(container), PictureDecoder(codec, container)
        write_atomic(out / f"{name}.atc", data)
        write_atomic(out / f"{name}.png", encode_picture(decoder.decode_picture(), ".png"))
        latents[name] = decoder.latents_sha256
        print(f"{name}: {len(data)} bytes, {len(container.stripes)} stripes, sections {sorted(container.extras)}")
    golden = {"decoder_id": codec.header.decoder_id.hex(), "latents_sha256": latents}
    write_atomic(out / "golden.json", (json.dumps(golden, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
