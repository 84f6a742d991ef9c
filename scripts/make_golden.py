"""Make the golden files: a small sealed model, three files that it wrote, and the pictures that they decode to.

    python scripts/make_golden.py SAMPLES [--model MODEL] [--out tests/data]

SAMPLES is the folder that scripts/samples.py made. The golden files were made once for model format 4, and those in
tests/data/levels after it got gains of z. They are made again only for a format that cannot read them, because the
tests decode the ones that are committed.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.config import AttentionConfig, Config, DataConfig, ModelConfig, TrainConfig
from attncodec.console import log_to_stderr
from attncodec.container import pack
from attncodec.files import write_atomic
from attncodec.pictures import RGB, encode_rgb, read_rgb
from attncodec.quality import quality_of_index
from attncodec.training.train import train

MODEL = ModelConfig(
    latent_channels=32,
    hyper_channels=16,
    widths=(0, 16, 24),
    analysis_blocks=(0, 1, 1),
    synthesis_blocks=(0, 1, 1),
    attention=AttentionConfig(kind="dot", strides=(8, 16)),
    context_width=32,
    rd_lambdas=(0.0018, 0.0130, 0.0932),
)
FREE = ("astronaut.png", "chelsea.png", "rocket.png")  # they are in the public domain or CC0, as coffee is


def graphic() -> RGB:
    """Draw flat colours and lines, which no photograph has."""
    image = Image.new("RGB", (150, 90), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 10, 60, 50), fill=(200, 30, 40))
    draw.ellipse((50, 30, 140, 85), fill=(20, 90, 200))
    for x in range(0, 150, 7):
        draw.line((x, 0, 149 - x, 89), fill=(0, 0, 0))
    return read_back(image)


def read_back(image: Image.Image) -> RGB:
    with tempfile.TemporaryDirectory() as folder:
        image.save(Path(folder) / "picture.png")
        return read_rgb(Path(folder) / "picture.png")


def trained(samples: Path) -> SealedCodec:
    """Train a model for a minute, and seal it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in FREE:
            shutil.copy(samples / "train" / name, folder)
        config = Config(
            model=MODEL,
            data=DataConfig(train=folder, crop=128),
            train=TrainConfig(budget="1500", batch=8, lr=3e-3, validations=1),
        )
        train(config, Path(folder) / "run", torch.device("cpu"))
        return load_sealed(Path(folder) / "run" / "model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--model", type=Path, help="model to use; one is trained by default")
    parser.add_argument("--out", type=Path, default=Path("tests/data"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log_to_stderr()
    codec = load_sealed(options.model) if options.model else trained(options.samples)
    coffee = read_rgb(options.samples / "test" / "coffee.png")
    pictures = {
        "coffee": (coffee[100:260, 180:404], Target(quality=2), 0),
        "refined": (coffee[200:297, 300:431], Target(quality=1.5), 2),
        "graphic": (graphic(), Target(quality=3), 0),
    }
    codec.save(options.out / "tiny.safetensors")
    latents = {}
    for name, (rgb, target, effort) in pictures.items():
        encoder = PictureEncoder(codec, rgb.copy(), effort)
        if name == "graphic":  # nothing is skipped here, as where skipping would cost too much
            encoder.latents = replace(encoder.latents, skip_below=0)
        container = encoder.encode(target)
        data, decoder = pack(container), PictureDecoder(codec, container)
        write_atomic(options.out / f"{name}.atc", data)
        write_atomic(options.out / f"{name}.png", encode_rgb(decoder.decode(), ".png"))
        latents[name] = decoder.latents_sha256
        quality = quality_of_index(container.quality_index)
        print(f"{name}: {len(data)} bytes, quality {quality:g}, skip {container.skip}")
    golden = {"decoder_id": codec.header.decoder_id.hex(), "latents_sha256": latents}
    write_atomic(options.out / "golden.json", (json.dumps(golden, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
