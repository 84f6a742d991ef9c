"""Write the model card of a shipped model, from the files that its training and evaluation wrote.

    python scripts/model_card.py NETWORKS

NETWORKS is default or large; scripts/train_shipped wrote the results.
"""

import argparse
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluations import at_same_rate, bd_rates, in_db, in_percent, points_of, title_of
from lineage import (
    FOLLOWS,
    REFUSALS,
    RESULTS,
    UNKNOWN,
    Generation,
    licences_of,
    pictures_of,
    read_generations,
    strictest,
)

from attncodec.coding.sealed import load_sealed
from attncodec.coding.shipped import shipped
from attncodec.config_file import flatten, load_config
from attncodec.files import write_atomic
from attncodec.networks.complexity import complexity, each_way

RECIPE = "shipped"
TITLES = {"attncodec": "PSNR dB", "webp": "WebP, PSNR dB", "jpeg": "JPEG, PSNR dB"}
OF_THIS_MACHINE = ("data.train", "data.cache", "data.memory_share")
# What the names of pictures begin with: the set they are from, and whether they are photographs.
SETS = {
    "cid22_": ("CID22", True),
    "cid22g_": ("CID22", False),
    "clic_": ("CLIC", True),
    "clicg_": ("CLIC", False),
    "wall_": ("wallpapers", True),
}
# These are the public names and addresses of the sets, and whom they credit; for packages, their copyright files do.
CREDITS = {
    "CID22": "[Cloudinary Image Dataset '22](https://cloudinary.com/labs/cid22), training part, by Cloudinary",
    "CLIC": "[Challenge on Learned Image Compression 2025](https://clic2025.compression.cc), validation part, "
    "pictures of Unsplash",
    "wallpapers": "the Debian packages [lomiri-wallpapers](https://packages.debian.org/lomiri-wallpapers) "
    '(Aitzol Berasategi, Lukas Baubkus, "Bolly", Clemens Engelhardt, Trevor "Freespace", Sander Klootwijk, Jakub Mede, '
    "Peter Nerlich), [mate-backgrounds](https://packages.debian.org/mate-backgrounds) (Charles Barbin, "
    '"blackcombwhistler07", Jens Ansorg, Lapo Calamandrei, Andrea Cimitan, Marco Cogoni, Jean-François Fortin Tam, '
    "Sergey Nazarov, Lennart Poettering, Timothy Schellhase, Hylke Bons) and "
    "[plasma-workspace-wallpapers](https://packages.debian.org/plasma-workspace-wallpapers) (KDE Visual "
    "Design Group: Dmitri Popov, Ian Hex, Martin Klapetek, Risto Saukonpää, Sigi Sagi, Maciej Wiklo), reduced in size",
}

CARD = """# {networks}.safetensors

Model {model}: {encode:.1f} kMAC/pixel to encode, {decode:.1f} to decode, {parameters:.1f} M parameters,
{megabytes:.1f} MB. The figures are from [`{results}`](../../{results}), which `scripts/train_shipped` writes.

## Recipe

[`configs/shipped.yaml`](../configs/shipped.yaml) with the networks of
[`configs/{networks}.yaml`](../configs/{networks}.yaml), {differs}; [`config.yaml`](../../{results}/config.yaml) has all
fields of the run. It took {steps} steps in {minutes} minutes on {hardware} with torch {torch}. The sealed weights are
those of step {sealed_step}, which was best on the held-out pictures. On these the loss of this model is {loss:.4f};
that of {before} was {loss_before:.4f}.

## How it was made

{generations}

The loss is that of the sealed model on the pictures that its run held out. `scripts/train_shipped` does not repeat
this. It grows the model that is shipped at that time, trains it further, and so adds a generation to the list, which is
kept in [`generations.json`](../../{results}/generations.json). Earlier weights are in the history of
`attncodec/weights` in the repository.

## Pictures

The last generation was trained on {pictures}. Held out, to choose the step and to compare models: {held_out} more.
No other pictures were used; {measured_name} was only measured.

{sets}

What was learned from are crops of the pictures, turned, mirrored and reduced.
[`pictures.csv`](../../{results}/pictures.csv) lists every picture with {columns}. `scripts/train_shipped` learns this
from `MANIFEST.csv` beside the pictures, which has the columns `file` and `licence`, and may have `source` and
`author`. The licence of a picture that is not listed there is unknown.

{licences}

## The licence of the weights

{licence} Whether weights are an adaptation of pictures at all is not settled; we claim no further rights in them. Files
that the model writes, and the pictures that they decode to, are yours.

## Results

{measured}, measured on real files; the PSNR of the other codecs is on their curve at the same bpp. The BD-rate is
{rates}, all measured here by Pillow on the same pictures.

{curve}

## Limits

The model is made for photographs and was trained for PSNR. It is weak on flat graphics and text:

{flaws}
"""


def table(rows: Sequence[Sequence[object]]) -> str:
    """Format a Markdown table; the first row is the header, and the first column holds words."""
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([lines[0], "| --- |" + " ---: |" * (len(rows[0]) - 1), *lines[1:]])


def card(path: Path, results: Path, root: Path) -> str:
    """Return the model card of a model file as Markdown; `results` is relative to `root`."""
    codec, networks = load_sealed(path), path.stem
    info, costs = codec.header.training_info, complexity(codec.header.config)
    machine, evaluation, compared, flaws = (
        json.loads((root / results / name).read_text())
        for name in ("versions.json", "kodak/results.json", "comparison.json", "limits.json")
    )
    generations = read_generations(root / results / "generations.json")
    encode, decode = each_way({part: cost for part, (cost, _) in costs.items()})
    name, count = evaluation["dataset"] or evaluation["run"]["arguments"]["folder"], len(evaluation["pictures"])
    name = "Kodak" if name.lower() == "kodak" else f"the folder `{name}`"
    text = CARD.format(
        networks=networks,
        results=results,
        model=codec.header.decoder_id.hex(),
        encode=encode,
        decode=decode,
        parameters=sum(parameters for _, parameters in costs.values()) / 1e6,
        megabytes=path.stat().st_size / 1e6,
        differs=differences(networks, root / results / "config.yaml"),
        steps=generations[-1].steps,
        sealed_step=info["steps"],
        minutes=generations[-1].minutes,
        hardware=hardware(machine),
        torch=machine["torch"],
        loss=compared["now"]["loss"],
        before=model_before(networks, compared["before"]),
        loss_before=compared["before"]["loss"],
        generations=history(generations),
        **about_pictures(root / results),
        licence=about_licence(generations),
        measured_name=name,
        measured=f"{name[0].upper()}{name[1:]}, {count} picture{'s' if count > 1 else ''}",
        curve=curve_table(evaluation),
        flaws=flaw_table(flaws),
        rates=bd_rates_in_words(evaluation),
    )
    return "\n\n".join(map(wrapped, text.rstrip().split("\n\n"))) + "\n"


def wrapped(paragraph: str) -> str:
    """Break the lines of a paragraph anew; tables and titles stay as they are."""
    if paragraph.startswith(("#", "|")):
        return paragraph
    return textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False)


def hardware(machine: dict[str, Any]) -> str:
    """Describe the hardware of a run by its versions.json."""
    on_cpu = f"{machine['cores']} CPU cores ({machine['cpu_capability']})"
    return on_cpu if machine["device"] == "cpu" else f"one {machine['device']}"


def differences(networks: str, path: Path) -> str:
    """Name the fields that the run has otherwise than the committed configurations."""
    recipe = load_config(RECIPE).model_copy(update={"model": load_config(networks).model})
    ours, theirs = (flatten(config.model_dump(mode="json")) for config in (load_config(path), recipe))
    changed = [
        f"`{key}` ({ours.get(key)} in place of {theirs.get(key)})"
        for key in dict.fromkeys([*theirs, *ours])
        if key not in OF_THIS_MACHINE and ours.get(key) != theirs.get(key)
    ]
    return f"with other values of {', '.join(changed)}" if changed else "unchanged"


def model_before(networks: str, before: dict[str, Any]) -> str:
    """Name the model that this one was compared with; the first large model has the default one before it."""
    of = before.get("networks", networks)
    of = "the model that was shipped before" if of == networks else f"the shipped model `{of}`"
    return f"{of} ({before['decoder_id']})"


def history(generations: Sequence[Generation]) -> str:
    """Format the table of generations, the oldest first."""
    header = ["generation", "model", "date", "minutes", "hardware", "steps", "loss", "code at", "licence that follows"]
    rows = [header]
    for number, made in enumerate(generations, 1):
        kind = strictest(licences_of(generations[:number]))
        facts = (made.decoder_id, made.date, made.minutes, made.hardware, made.steps, made.loss)
        cells = ["not known" if fact is None else str(fact) for fact in facts]
        commit = made.commit and made.commit[:7] + made.commit[40:]  # it ends in -dirty if the code was changed since
        rows.append(
            [
                f"{number}: {made.how}",
                *cells,
                commit or "not known",
                FOLLOWS.get(kind, UNKNOWN if kind == UNKNOWN else "none"),
            ]
        )
    return table(rows)


def about_pictures(results: Path) -> dict[str, str]:
    """Say what was trained on, from which sets, and under which licences."""
    rows = pictures_of(results)
    found = Counter(next((SETS[start] for start in SETS if row["name"].startswith(start)), None) for row in rows)
    counts = [sum(count for of, count in found.items() if of and of[1] is kind) for kind in (True, False)]
    kinds = f"of which {counts[0]} are photographs and {counts[1]} drawings, charts and screens"
    kinds += f", and {found[None]} of sets that we do not know" if found[None] else ""
    sets = [["set", "photographs", "drawings, charts and screens"]]
    for name in dict.fromkeys(of[0] for of in found if of):
        sets.append([CREDITS[name], str(found[name, True]), str(found[name, False])])
    titles = {"source": "its file in the set", "author": "its author", "licence": "its licence"}
    licences = Counter(row["licence"] for row in rows).most_common()
    return {
        "pictures": f"{len(rows)} pictures, {kinds}",
        "held_out": str(len(pictures_of(results, "held out"))),
        "sets": table(sets) if len(sets) > 1 else "They are of no set that we know.",
        "columns": ", ".join(["its role", *(titles[name] for name in titles if name in rows[0])]) + " and its SHA-256",
        "licences": table([["licence", "pictures trained on"], *map(list, licences)]),
    }


def about_licence(generations: Sequence[Generation]) -> str:
    """Say which licence follows from the pictures of all generations, or why none can be named."""
    kind = strictest(licences_of(generations))
    if kind in REFUSALS:
        return REFUSALS[kind]
    return (
        "If the weights are an adaptation of the pictures of all generations above, their licence is "
        f"**{FOLLOWS[kind]}**, the strictest that follows from the licences of these pictures."
    )


def curve_table(results: dict[str, Any]) -> str:
    """Format the rate-distortion curve, and the PSNR of classic codecs at the same rates."""
    points = points_of(results)
    rows = [["quality", *(f"{point['quality']:g}" for point in points)]]
    rows.append(["bpp", *(f"{point['bpp']:.3f}" for point in points)])
    rows.append(["PSNR dB", *(in_db(point["psnr_db"]) for point in points)])
    for codec, values in at_same_rate(results).items():
        rows.append([f"{title_of(results, codec)}, PSNR dB", *map(in_db, values)])
    return table(rows)


def flaw_table(records: list[dict[str, Any]]) -> str:
    """Format what becomes of pictures that are no photographs."""
    rows = [["picture", "quality", "bpp", *TITLES.values()]]
    for name, quality in dict.fromkeys((record["name"], record["quality"]) for record in records):
        here = {record["codec"]: record for record in records if (record["name"], record["quality"]) == (name, quality)}
        figures = [in_db(here[kind]["psnr_db"]) if kind in here else "no such file" for kind in TITLES]
        rows.append([name, f"{quality:g}", f"{here['attncodec']['bpp']:.3f}", *figures])
    return table(rows)


def bd_rates_in_words(results: dict[str, Any]) -> str:
    """Say what the BD-rates against the classic codecs are."""
    rates, codecs = bd_rates(results), results["classic"]
    return ", ".join(f"{in_percent(rates[codec])} against {title_of(results, codec)}" for codec in codecs)


def write_card(path: Path, results: Path, root: Path) -> None:
    write_atomic(path.with_suffix(".md"), card(path, results, root).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", choices=RESULTS)
    networks = parser.parse_args().networks
    write_card(shipped(networks), RESULTS[networks], Path(__file__).absolute().parent.parent)


if __name__ == "__main__":
    main()
