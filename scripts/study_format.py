"""Measure what each part of model format 4 is worth, through real files.

    python scripts/study_format.py OLD.safetensors NEW.safetensors TRAINING_PICTURES TEST_PICTURES
        [--before results/format_4/before.json] [--out results/format_4]

OLD is a model of format 3, and NEW has the same weights carried over by scripts/carry_over.py. The parts are added one
by one: the integer networks in the range of int8 digits; measured tables of y; offsets in front of the synthesis; and
error weights by channel with the centres of what is rounded, which makes NEW. Before the last part, symbols are rounded
as in format 3, also while tables and offsets are measured. --before holds what the build of format 3 measured with OLD
on the same test pictures. BD-rates are over the mean curves of all levels.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from carry_over import carry_over, training_crops

from attncodec.coding.calibration import Sample, count
from attncodec.coding.decoder import PictureDecoder
from attncodec.coding.encoder import PictureEncoder
from attncodec.coding.model_file import OFFSETS, make_header, table_tensors
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.console import log_to_stderr
from attncodec.container import pack
from attncodec.environment import versions
from attncodec.files import write_atomic
from attncodec.metrics import bd_rate, bpp, psnr_for_means_db
from attncodec.pictures import RGB, find_pictures, read_rgb
from attncodec.quality import index_of_level


def changed(sealed: SealedCodec, tensors: dict[str, torch.Tensor]) -> SealedCodec:
    tensors = {**sealed.tensors, **tensors}
    return SealedCodec(make_header(sealed.header.config, tensors, {}), tensors)


def stages(old: Path, new: Path, pictures: Path) -> dict[str, SealedCodec]:
    """Return codecs by name, in the order in which parts are added."""
    crops = training_crops(pictures, 64, 256)
    final = load_sealed(new)
    measured = ("tables.y.", "reconstruction.", "rounding.")
    integers = {name: tensor for name, tensor in final.tensors.items() if not name.startswith(measured)}
    analytic = carry_over(old, None).tensors
    integers |= {name: tensor for name, tensor in analytic.items() if name.startswith("tables.y")}
    sealed = SealedCodec(make_header(final.header.config, integers, {}), integers)
    indices = [index_of_level(1 + level) for level in range(len(sealed.header.config.rd_lambdas))]
    sample = Sample(crops, sealed.analyse(crops))
    plain = count(sealed, sample, dict.fromkeys(indices)).centres()
    found = count(sealed, sample, {index: sealed.rounding(index) for index in indices})
    tables = changed(sealed, table_tensors(found.tables(), "y"))
    offsets = changed(tables, {OFFSETS: found.centres() - plain})
    return {"integers": sealed, "tables": tables, "offsets": offsets, "rounding": final}


def measure(codec: SealedCodec, pictures: list[RGB]) -> list[dict[str, float]]:
    """Measure a point for each whole level, as means over the pictures."""
    points = []
    encoders = [PictureEncoder(codec, rgb) for rgb in pictures]
    for level in range(len(codec.header.config.rd_lambdas)):
        rates, qualities = [], []
        for encoder in encoders:
            container = encoder.write(index_of_level(level + 1))
            decoded = PictureDecoder(codec, container).decode()
            rates.append(bpp(len(pack(container)), encoder.rgb.shape[1], encoder.rgb.shape[0]))
            qualities.append(psnr_for_means_db(encoder.rgb, decoded))
        points.append({"quality": level + 1, "bpp": fmean(rates), "psnr_db": fmean(qualities)})
    return points


def table(rows: dict[str, Any]) -> str:
    lines = ["| parts up to | BD-rate to before | of that, this part |", "| --- | ---: | ---: |"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row['bd_rate_percent']:+.2f} % | {row['of_this_part_percent']:+.2f} % |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("old", "new", "training", "test"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--before", type=Path, default=Path("results/format_4/before.json"))
    parser.add_argument("--out", type=Path, default=Path("results/format_4"))
    options = parser.parse_args()
    log_to_stderr()
    before = json.loads(options.before.read_text())
    pictures = [read_rgb(path) for path in find_pictures(options.test)]
    curve = [(point["bpp"], point["psnr_db"]) for point in before["points"]]
    rows: dict[str, Any] = {}
    last = 0.0
    for name, codec in stages(options.old, options.new, options.training).items():
        points = measure(codec, pictures)
        change = bd_rate(curve, [(point["bpp"], point["psnr_db"]) for point in points])
        assert change is not None
        rows[name] = {"bd_rate_percent": change, "of_this_part_percent": change - last, "points": points}
        last = change
        print(f"{name}: {change:+.2f} %", flush=True)
    result = {
        "before": before["model"],
        "model": codec.header.decoder_id.hex(),
        "pictures": options.test.resolve().name,
        "rows": rows,
        "versions": versions("cpu"),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out / "parts.json", (json.dumps(result, indent=2) + "\n").encode())
    write_atomic(options.out / "table.md", table(rows).encode())
    print(table(rows))


if __name__ == "__main__":
    main()
