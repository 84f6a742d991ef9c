"""Write the model card of a shipped model, from the files that its training and evaluation wrote.

    python scripts/model_card.py NETWORKS RESULTS PICTURES

NETWORKS is default or large; RESULTS is the folder that scripts/train_shipped wrote; PICTURES is the folder that the
model was trained on. The licences on the card are those of PICTURES/MANIFEST.csv, with columns `file` and `licence`, if
that file exists.
"""

import argparse
import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from attncodec.coding.sealed import load_sealed
from attncodec.coding.shipped import shipped
from attncodec.files import write_atomic
from attncodec.metrics.rate import bd_rate
from attncodec.networks.complexity import complexity, each_way

# Weights take the first of these licences that is among those of their pictures, so the strictest comes first. Licences
# of a kind begin with its key.
FOLLOWS = {
    "unknown": "no licence that we could name, because the licences of some pictures are unknown",
    "CC BY-NC": "no free licence, because the licence of some pictures forbids commercial use",
    "CC BY-ND": "no licence, because the licence of some pictures forbids adaptations",
    "GPL": "GPL-3.0-or-later",
    "CC BY-SA": "CC BY-SA 4.0",
    "CC BY": "CC BY 4.0",
    "CC0": "MIT",
    "Unsplash": "MIT",
    "public domain": "MIT",
}
TITLES = {"attncodec": "PSNR dB", "webp": "WebP, PSNR dB", "jpeg": "JPEG, PSNR dB"}

CARD = """# {networks}.safetensors

Model {model}: {encode:.1f} kMAC/pixel to encode, {decode:.1f} to decode, {parameters:.1f} M parameters,
{megabytes:.1f} MB. The figures are from [`{results}`](../../{results}); `scripts/train_shipped` produced all of it.

## Recipe

[`configs/shipped.yaml`](../configs/shipped.yaml) with the networks of
[`configs/{networks}.yaml`](../configs/{networks}.yaml), {grown}: {steps} steps in {minutes:.0f}
minutes on {device} ({cores} cores, {cpu_capability}), torch {torch}. The sealed weights are those of the step that was
best on the held-out pictures. On these pictures the loss is {loss:.4f}; that of the previous model was
{loss_before:.4f}.

## Pictures, and the licence of the weights

{pictures}

No other pictures were used to choose anything; Kodak was only measured. If the weights are an adaptation of these
pictures, their licence is **{licence}**, which follows from the licences of the pictures. Whether they are an
adaptation is not settled; we claim no further rights in them. Files that the model writes, and the pictures that they
decode to, are yours.

## Results

Kodak, 24 pictures, measured on real files; WebP and JPEG files are at least as large. BD-rate against WebP {webp},
against JPEG {jpeg}.

{curve}

## Limits

The model is made for photographs and was trained for PSNR. It is weak on flat graphics and text:

{flaws}
"""


def table(rows: Sequence[Sequence[object]]) -> str:
    """Format a Markdown table; the first row is the header, and the first column holds words."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([lines[0], "| --- |" + " ---: |" * (len(rows[0]) - 1), *lines[1:]])


def licences(results: Path, pictures: Path) -> Counter[str]:
    """Count the pictures that were trained on, by licence."""
    manifest, known = pictures / "MANIFEST.csv", dict[str, str]()
    if manifest.exists():
        with manifest.open(newline="", encoding="utf-8") as file:
            known = {row["file"]: row["licence"] for row in csv.DictReader(file)}
    with (results / "pictures.csv").open(newline="", encoding="utf-8") as file:
        return Counter(known.get(row["name"], "unknown") for row in csv.DictReader(file) if row["role"] == "train")


def card(networks: str, results: Path, pictures: Path) -> str:
    """Return the model card as Markdown."""
    codec, of_pictures = load_sealed(shipped(networks)), licences(results, pictures)
    info, costs = codec.header.training_info, complexity(codec.header.config)
    kmac = {part: cost for part, (cost, _) in costs.items()}
    machine, run, compared, found = (
        json.loads((results / name).read_text())
        for name in ("versions.json", "kodak/run.json", "comparison.json", "limits.json")
    )
    origin = compared["grown_from"].get("decoder_id")
    curves = {"attncodec": run["points"], **run["classic"]}
    pairs = {name: [(point["bpp"], point["psnr_db"]) for point in points] for name, points in curves.items()}
    curve = [["quality", *(f"{point['quality']:g}" for point in run["points"])]]
    curve.append(["bpp", *(f"{point['bpp']:.3f}" for point in run["points"])])
    curve += [[title, *(f"{point['psnr_db']:.2f}" for point in curves[name])] for name, title in TITLES.items()]
    flaws = [["picture", "quality", "bpp", *TITLES.values()]]
    for name, quality in dict.fromkeys((record["name"], record["quality"]) for record in found):
        here = {record["codec"]: record for record in found if (record["name"], record["quality"]) == (name, quality)}
        qualities_db = [here[kind]["psnr_db"] for kind in TITLES]
        figures = ["lossless" if quality_db is None else f"{quality_db:.2f}" for quality_db in qualities_db]
        flaws.append([name, f"{quality:g}", f"{here['attncodec']['bpp']:.3f}", *figures])
    encode, decode = each_way(kmac)
    return CARD.format(
        networks=networks,
        results=results,
        model=codec.header.decoder_id.hex(),
        encode=encode,
        decode=decode,
        parameters=sum(count for _, count in costs.values()) / 1e6,
        megabytes=shipped(networks).stat().st_size / 1e6,
        grown=f"grown from model {origin}" if origin else "not grown from a shipped one",
        steps=info["steps"],
        minutes=info["elapsed_s"] / 60,
        loss=compared["now"]["loss"],
        loss_before=compared["before"]["loss"],
        pictures=table([["licence", "pictures trained on"], *map(list, of_pictures.most_common())]),
        licence=licence_of_weights(of_pictures),
        curve=table(curve),
        flaws=table(flaws),
        **{name: machine[name] for name in ("device", "cores", "cpu_capability", "torch")},
        **{name: change(pairs[name], pairs["attncodec"]) for name in ("webp", "jpeg")},
    )


def change(reference: list[tuple[float, float]], curve: list[tuple[float, float]]) -> str:
    """Return the BD-rate as text."""
    percent = bd_rate(reference, curve)
    return "none in common" if percent is None else f"{percent:+.1f} %"


def licence_of_weights(of_pictures: Counter[str]) -> str:
    """Return the licence that follows from those of the pictures."""
    kinds = [next((kind for kind in FOLLOWS if licence.startswith(kind)), "unknown") for licence in of_pictures]
    return FOLLOWS[min(kinds, key=list(FOLLOWS).index)]


def write_card(networks: str, results: Path, pictures: Path) -> Path:
    path = shipped(networks).with_suffix(".md")
    write_atomic(path, card(networks, results, pictures).encode())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks")
    parser.add_argument("results", type=Path)
    parser.add_argument("pictures", type=Path)
    options = parser.parse_args()
    print(write_card(options.networks, options.results, options.pictures))


if __name__ == "__main__":
    main()
