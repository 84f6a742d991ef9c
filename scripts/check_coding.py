"""Check that a sealed codec costs what its float networks promise, smoothly over all qualities, and meets targets.

    python scripts/check_coding.py RUN PICTURES [--out results/coding.json]

RUN is a run folder with a model, and the checkpoint that the model was sealed from. For all pictures, at qualities 1, 4
and 8 (or those that the model has), the script compares the bytes of the file with the ideal code length of the same
latents under the float networks, finds the part of the difference that integers and tables make, and counts how often a
clamp acted. For four pictures it measures the worst fall of rate and PSNR from one step of 0.1 in quality to the next,
how far targets are missed, and what it costs that half way between two levels z is coded by the tables of the nearest.
"""

import argparse
import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncodec.coding.bottlenecks import BitCounter, EncodeBottleneck
from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.fixed_point import FIXED_POINT_ONE, INTEGER_LIMIT, IntegerLeakyReLU
from attncodec.coding.integer_context import IntegerContextModel
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.container import pack
from attncodec.environment import versions
from attncodec.errors import ConfigError
from attncodec.files import write_atomic
from attncodec.metrics.psnr import psnr_db, psnr_for_means_db
from attncodec.networks.bottleneck import RoundBottleneck
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.priors import NUM_SCALES, SKIP_SCALE_INDEX, SideInfo, clamp_symbols
from attncodec.pictures import RGB, find_pictures, read_rgb
from attncodec.quality import index_of_quality, interpolate, nearest_level
from attncodec.training.checkpoint import load_checkpoint
from attncodec.training.export import averaged_codec

RATE_LIMIT, RATE_LIMIT_BYTES, INTEGER_SHARE_LIMIT = 0.003, 16, 0.001
FALL_LIMIT, FALL_LIMIT_DB = 0.001, 0.005
TARGET_LIMIT, TARGET_LIMIT_BYTES, TARGET_LIMIT_DB = 0.01, 16, 0.05
# Encoder and decoder clamp alike, so a clamp costs bits and never exactness.
CLAMPED_LIMIT = 1e-6
SMOOTH_PICTURES = 4


class Clamps:
    """Counts elements at the ends of their ranges, in the integer networks of a codec."""

    def __init__(self, codec: SealedCodec) -> None:
        self.activations = self.clamped = 0
        self.lowest_scales = self.highest_scales = self.elements = 0
        prior = codec.codec.prior
        assert isinstance(prior, IntegerContextModel)
        for module in prior.modules():
            if isinstance(module, IntegerLeakyReLU):
                module.register_forward_hook(self._count)
        original = prior.entropy_parameters

        def counted(*arguments: Any) -> tuple[Tensor, Tensor]:
            mean, scale_index = original(*arguments)
            self.elements += scale_index.numel()
            self.lowest_scales += int((scale_index == 0).sum())
            self.highest_scales += int((scale_index == NUM_SCALES - 1).sum())
            return mean, scale_index

        setattr(prior, "entropy_parameters", counted)  # noqa: B010 - a method of one object, which types do not know

    def _count(self, module: IntegerLeakyReLU, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.activations += output.numel()
        self.clamped += int((output.abs() >= INTEGER_LIMIT).sum())


@torch.inference_mode()
def code_lengths(codec: SealedCodec, floats: HyperpriorCodec, rgb: RGB, quality: float) -> dict[str, float]:
    """Measure the bits of the same latents in the file, by the integers and their tables, and by the float networks."""
    encoder, at = PictureEncoder(codec, rgb), torch.tensor([codec.quality_index(quality)])
    container = encoder.write(int(at))
    (stripe,) = container.stripes
    skip_below = SKIP_SCALE_INDEX if stripe.skip else 0
    counter = BitCounter()
    latents = encoder.latents.y
    z = codec.codec.hyper_analysis(latents)
    bottleneck = EncodeBottleneck(counter, codec.z_tables, codec.y_tables, skip_below, codec.rounding(int(at)))
    offsets, codec.codec.offsets = codec.codec.offsets, None  # y_hat must hold the symbols alone
    y_hat = codec.codec.transmit(bottleneck, at, codec.codec.apply_gain(latents, at))
    codec.codec.offsets = offsets
    # The scale indices of the float networks may be below 0; where nothing is skipped, those are coded, too.
    ideal = RoundBottleneck(SKIP_SCALE_INDEX if stripe.skip else -math.inf)
    floats.transmit(ideal, at, y_hat.float(), z)
    return {
        "quality": quality,
        "skip": stripe.skip,
        "file_bytes": len(stripe.latents),
        "table_bytes": counter.bits / 8,
        "float_bytes": float(ideal.bits) / 8,
    }


@torch.inference_mode()
def z_between_levels(codec: SealedCodec, floats: HyperpriorCodec, rgb: RGB) -> dict[str, float]:
    """Measure bits half way between levels: of z by the nearest level's tables and by the density, and of the file."""
    encoder, found = PictureEncoder(codec, rgb), {"table_bits": 0.0, "density_bits": 0.0, "file_bits": 0.0}
    z = codec.codec.hyper_analysis(encoder.latents.y)
    assert codec.codec.z_prior is not None and floats.z_prior is not None
    for level in range(1, len(codec.header.config.rd_lambdas)):
        quality_index = index_of_quality(level + 0.5)
        at = torch.tensor([quality_index])
        gain = interpolate(codec.codec.log2_gain_z, at)[..., None, None] / FIXED_POINT_ONE
        side = SideInfo(tuple(z.shape), gain, nearest_level(at))
        z_hat = clamp_symbols(z * torch.exp2(gain))
        found["table_bits"] += float(codec.codec.z_prior.bits(z_hat, side).sum())
        found["density_bits"] += float(floats.z_prior.bits(z_hat, side).sum())
        found["file_bits"] += 8 * encoder.file_bytes(quality_index)
    return found


def smoothness(codec: SealedCodec, rgb: RGB) -> dict[str, float]:
    """Measure the worst falls over all steps of 0.1, and the least rises over whole levels."""
    encoder, top = PictureEncoder(codec, rgb), len(codec.header.config.rd_lambdas)
    points = []
    for quality in np.arange(1, top + 0.05, 0.1):
        quality_index = codec.quality_index(float(quality))
        container = encoder.write(quality_index)
        decoded = PictureDecoder(codec, container).decode()
        points.append((len(pack(container)), psnr_for_means_db(rgb, decoded)))
    return {
        "worst_fall": max(1 - b[0] / a[0] for a, b in pairwise(points)),
        "worst_fall_db": max(a[1] - b[1] for a, b in pairwise(points)),
        "least_level_rise": min(b[0] / a[0] - 1 for a, b in pairwise(points[::10])),
        "least_level_rise_db": min(b[1] - a[1] for a, b in pairwise(points[::10])),
    }


def misses(codec: SealedCodec, rgb: RGB) -> dict[str, float]:
    """Measure how far the files are from targets between the qualities.

    Misses of bytes are shares of the target, and those of PSNR are in dB. A negative one would not meet the target.
    """
    encoder = PictureEncoder(codec, rgb)
    missed, missed_db = [], []
    for share in (0.1, 0.35, 0.6, 0.85):
        quality_index = encoder.lowest + round(share * (encoder.highest - encoder.lowest))
        limit = encoder.file_bytes(quality_index) + 3
        missed.append(1 - len(pack(encoder.encode(Target(bytes=limit)))) / limit)
        wanted_db = encoder.psnr_db(quality_index) - 0.003
        found_db = psnr_db(rgb, PictureDecoder(codec, encoder.encode(Target(psnr_db=wanted_db))).decode())
        missed_db.append(math.inf if found_db is None else found_db - wanted_db)
    try:
        encoder.encode(Target(bytes=100))
        raise AssertionError("100 bytes were enough")
    except ConfigError:
        pass
    return {
        "largest_miss": max(missed),
        "smallest_miss": min(missed),
        "largest_miss_db": max(missed_db),
        "smallest_miss_db": min(missed_db),
    }


def verdict(result: dict[str, Any]) -> dict[str, bool]:
    """Return which of the requirements hold."""
    rows = [row for rows in result["code_lengths"].values() for row in rows]
    smooth, targets = result["smoothness"].values(), result["targets"].values()
    return {
        "file within 0.3 % + 16 bytes of the float networks": all(
            row["file_bytes"] - row["float_bytes"] <= RATE_LIMIT * row["float_bytes"] + RATE_LIMIT_BYTES for row in rows
        ),
        "integers and tables within 0.1 %": all(
            row["table_bytes"] - row["float_bytes"] <= INTEGER_SHARE_LIMIT * row["float_bytes"] for row in rows
        ),
        "at most one activation in a million clamped": (
            result["clamps"]["clamped"] <= CLAMPED_LIMIT * result["clamps"]["activations"]
        ),
        "rate and PSNR rise over whole levels": all(
            s["least_level_rise"] > 0 and s["least_level_rise_db"] > 0 for s in smooth
        ),
        "no step of 0.1 falls": all(
            s["worst_fall"] <= FALL_LIMIT and s["worst_fall_db"] <= FALL_LIMIT_DB for s in smooth
        ),
        "targets met": all(
            t["smallest_miss"] >= 0
            and t["largest_miss"] <= TARGET_LIMIT
            and t["smallest_miss_db"] >= 0
            and t["largest_miss_db"] <= TARGET_LIMIT_DB
            for t in targets
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/coding.json"))
    options = parser.parse_args()
    codec = load_sealed(options.run / "model.safetensors")
    floats = averaged_codec(load_checkpoint(options.run / "checkpoints" / "best.safetensors")).eval()
    paths = find_pictures(options.pictures)
    levels = len(codec.header.config.rd_lambdas)
    qualities = sorted({1, min(4, levels), levels})
    some = [read_rgb(path) for path in paths[:: max(1, len(paths) // SMOOTH_PICTURES)][:SMOOTH_PICTURES]]
    names = [path.stem for path in paths[:: max(1, len(paths) // SMOOTH_PICTURES)][:SMOOTH_PICTURES]]
    result: dict[str, Any] = {
        "decoder_id": codec.header.decoder_id.hex(),
        "smoothness": {name: smoothness(codec, rgb) for name, rgb in zip(names, some, strict=True)},
        "targets": {name: misses(codec, rgb) for name, rgb in zip(names, some, strict=True)},
        "z_between_levels": {name: z_between_levels(codec, floats, rgb) for name, rgb in zip(names, some, strict=True)},
    }
    clamps = Clamps(codec)
    result["code_lengths"] = {
        path.stem: [code_lengths(codec, floats, read_rgb(path), quality) for quality in qualities] for path in paths
    }
    result["clamps"] = dict(vars(clamps))
    result["verdict"] = verdict(result)
    result["versions"] = versions("cpu")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out, (json.dumps(result, indent=2) + "\n").encode())
    rows = [row for rows in result["code_lengths"].values() for row in rows]
    worst = max(row["file_bytes"] / row["float_bytes"] - 1 for row in rows)
    print(f"excess of the file over the float networks: at most {100 * worst:.3f} %")
    worst = max(row["table_bytes"] / row["float_bytes"] - 1 for row in rows)
    print(f"excess of the integers and tables: at most {100 * worst:.3f} %")
    between = result["z_between_levels"].values()
    table, density, file = (sum(row[key] for row in between) for key in ("table_bits", "density_bits", "file_bits"))
    if file:
        print(f"tables of z between levels: {100 * (table - density) / file:+.3f} % of the file")
    print(f"clamps: {result['clamps']}")
    for name, holds in result["verdict"].items():
        print(f"{'passed' if holds else 'FAILED'}: {name}")
    if not all(result["verdict"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
