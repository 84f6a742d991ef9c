"""The figures of README.md and docs/, made from files under results/ or from the code, by name."""

import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attncodec.container
import attncodec.pictures.colour
from attncodec.coding.model_file import read_header
from attncodec.coding.shipped import shipped
from attncodec.config import Config, Phase, Section
from attncodec.configs import shipped_configs
from attncodec.networks.complexity import complexity, each_way

RESULTS = Path(__file__).absolute().parent.parent / "results"
PUBLISHED = ("jpeg", "jpeg2000", "webp", "bmshj2018-hyperprior", "hm", "mbt2018-mean", "av1", "cheng2020-attn", "vtm")
# What wrote the files of a folder or of a file; where it is gone by now, the commit says where it was.
COMMANDS = {
    "ablation": "scripts/studies/ablate.py",
    "attention": "scripts/studies/attention.py",
    "attention_inside": "scripts/study_attention_inside.py",
    "bench_codec.json": "scripts/benchmarks/codec.py",
    "bench_training_cpu.json": "scripts/benchmarks/training.py",
    "capacity": "scripts/study_capacity.py",
    "context": "scripts/study_context.py",
    "coding.json": "scripts/check_coding.py",
    "dry_run.json": "scripts/benchmarks/dry_run.py",
    "effort": "scripts/benchmarks/effort.py",
    "equal_time": "scripts/benchmarks/equal_time.py",
    "exact.json": "scripts/check_exact.py",
    "exact_gpu.json": "scripts/check_exact.py",
    "format_4": "scripts/study_format.py",
    "growth.json": "scripts/studies/growth.py",
    "optimisers": "scripts/studies/optimisers.py",
    "optimisers_20_minutes": "scripts/studies/optimisers.py",
    "own_parts.json": "scripts/benchmarks/own_parts.py",
    "quickstart": "scripts/quickstart",
    "shipped": "scripts/train_shipped",
}


def load(name: str) -> Any:
    """Read a JSON file under results/."""
    return json.loads((RESULTS / name).read_text())


def commits_in(tree: Any) -> Iterator[str]:
    """Find every commit that a JSON file names."""
    if isinstance(tree, dict):
        if isinstance(tree.get("git_commit"), str):
            yield tree["git_commit"][:7]
        for value in tree.values():
            yield from commits_in(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from commits_in(value)


def source(*names: str) -> str:
    """Say which command, at which commits, wrote these files or folders under results/."""
    paths = [path for name in names for path in ([RESULTS / name] if "." in name else (RESULTS / name).rglob("*.json"))]
    commits = list(
        dict.fromkeys(commit for path in sorted(paths) for commit in commits_in(json.loads(path.read_text())))
    )
    command, places = COMMANDS[names[0].split("/")[0]], ", ".join(f"`results/{name}`" for name in names)
    return f"*{places}, by `{command}` at {', '.join(f'`{commit}`' for commit in commits)}*\n"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Lay out a table: the first column to the left, all others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def table(place: str) -> str:
    """The table.md that a study wrote beside its JSON."""
    folder = place.removeprefix("results/")
    text = (RESULTS / folder / "table.md").read_text()
    return f"\n{text}\n{source(folder)}\n"


def shipped_curve() -> str:
    """What the shipped model is, its curve on Kodak beside WebP and JPEG, and BD-rates to published curves."""
    run, header = load("shipped/kodak/run.json"), read_header(shipped())
    if run["model"]["decoder_id"] != header.decoder_id.hex():
        raise SystemExit("results/shipped/kodak is not of the shipped model")
    costs = complexity(header.config)
    encode, decode = each_way({part: cost for part, (cost, _) in costs.items()})
    parameters = sum(count for _, count in costs.values()) / 1e6
    curves = {"": run["points"], "WebP, ": run["classic"]["webp"], "JPEG, ": run["classic"]["jpeg"]}
    rows = [["bpp", *(f"{point['bpp']:.3f}" for point in run["points"])]]
    rows += [[f"{name}PSNR dB", *(f"{point['psnr_db']:.2f}" for point in curve)] for name, curve in curves.items()]
    against = load("shipped/published.json")["against"]
    rates = [[against[key]["title"].split(" (")[0], in_percent(against[key]["bd_rate_percent"])] for key in PUBLISHED]
    return (
        f"\n{encode:.1f} kMAC/pixel to encode, {decode:.1f} to decode, "
        f"{parameters:.1f} M parameters. Kodak, 24 pictures, real files, means:\n\n"
        + markdown(["quality", *(f"{point['quality']:g}" for point in run["points"])], rows)
        + "\nIts BD-rate against published curves on the same pictures; below zero, this model needs fewer bits:\n\n"
        + markdown(["codec", "BD-rate"], rates)
        + f"\n{source('shipped')}\n"
    )


def summary() -> str:
    """The one table of the README: the shipped model at four qualities."""
    run = load("shipped/kodak/run.json")
    rows = [
        [
            f"{ours['quality']:g}",
            *(f"{ours[key]:.3f}" for key in ("bpp",)),
            *(f"{p['psnr_db']:.2f}" for p in (ours, webp, jpeg)),
        ]
        for ours, webp, jpeg in zip(run["points"], run["classic"]["webp"], run["classic"]["jpeg"], strict=True)
        if ours["quality"] in (1, 3, 5, 7)
    ]
    against = load("shipped/published.json")["against"]
    rates = ", ".join(
        f"{against[key]['title'].split(' (')[0]} {in_percent(against[key]['bd_rate_percent'])}"
        for key in ("jpeg", "webp", "bmshj2018-hyperprior", "cheng2020-attn", "vtm")
    )
    return (
        "\n"
        + markdown(["quality", "bpp", "PSNR dB", "WebP, PSNR dB", "JPEG, PSNR dB"], rows)
        + f"\nBD-rate: {rates}.\n\n"
    )


def quickstart() -> str:
    """What the quickstart's codec reaches, beside JPEG and WebP."""
    runs = [load(f"quickstart/{pictures}/run.json") for pictures in ("coffee", "kodak")]
    curves = {"attncodec, 3 minutes": [run["points"][0] for run in runs]}
    curves |= {name: [run["classic"][key][0] for run in runs] for name, key in (("JPEG", "jpeg"), ("WebP", "webp"))}
    forms = (("bpp", ".3f"), ("psnr_db", ".2f"), ("ms_ssim", ".3f"))
    rows = [
        [name, *(format(point[key], form) for point in points for key, form in forms)]
        for name, points in curves.items()
    ]
    header = ["", "coffee bpp", "PSNR dB", "MS-SSIM", "Kodak bpp", "PSNR dB", "MS-SSIM"]
    return f"\n{markdown(header, rows)}\n{source('quickstart')}\n"


def exactness() -> str:
    """How many files decode to other latents, in each variant."""
    rows = []
    for name in ("exact.json", "exact_gpu.json"):
        found = load(name)
        for group in ("variants", "controls"):
            for variant, result in found[group].items():
                where = "written here" if found["written"] == "here" else f"on {found['versions']['device']}"
                rows.append([variant, where, str(found["files"]), str(result["mismatches"])])
    header = ["read", "where", "files", "other latents"]
    return f"\n{markdown(header, rows)}\n{source('exact.json')}\n{source('exact_gpu.json')}\n"


def coding() -> str:
    """What coding costs beyond what the float networks promise, and whether files are as they should be."""
    found = load("coding.json")
    files = [file for picture in found["code_lengths"].values() for file in picture]
    costs = [100 * (file["file_bytes"] / file["float_bytes"] - 1) for file in files]
    rows = [[name, "yes" if holds else "no"] for name, holds in found["verdict"].items()]
    return (
        f"\nThe bytes of {len(files)} files differ from what the float networks promise by {min(costs):+.2f} to "
        f"{max(costs):+.2f} %.\n\n"
        f"{markdown(['check', 'passed'], rows)}\n{source('coding.json')}\n"
    )


def dry_run() -> str:
    """What a dry run promised, and what the run took."""
    found = load("dry_run.json")
    return (
        f"\nA dry run of `{Path(found['config']).stem}` for {found['budget']} promised {found['promised_steps']} "
        f"steps; the run took {found['taken_steps']}.\n\n{source('dry_run.json')}\n"
    )


def growth() -> str:
    """By how much the loss rises when the shipped model grows."""
    found = load("growth.json")
    rows = [[name, f"{kind['loss']:.4f}", f"{kind['percent']:+.4f} %"] for name, kind in found["kinds"].items()]
    return f"\n{markdown(['what is new', 'loss on held-out pictures', 'change'], rows)}\n{source('growth.json')}\n"


def training_speed() -> str:
    """Crops a second beside CompressAI's example."""
    found = load("bench_training_cpu.json")
    names = {
        "usual": "the loop of CompressAI's example, its Cheng2020Attention (N = 128), float32",
        "same module": "the same module with our data, precision and optimisers",
        "default": "the default configuration of that commit",
    }
    rows = [
        [text, f"{found['crops_per_s'][key]:.2f}", f"{found['times_usual'][key]:.1f}"] for key, text in names.items()
    ]
    return f"\n{markdown(['', 'crops/s', 'times the usual'], rows)}\n{source('bench_training_cpu.json')}\n"


def equal_time() -> str:
    """What equal time gives, beside CompressAI's mbt2018-mean."""
    found = load("equal_time/equal_time.json")
    theirs, gain, points = found["theirs"], found["gain_db"], found["ours"]["points"]
    rows = [
        [name, *(format(p[key], form) for p in points)]
        for name, key, form in (("bpp", "bpp", ".3f"), ("PSNR dB", "psnr_db", ".2f"))
    ]
    return (
        f"\nCompressAI's mbt2018-mean (N = 128, M = 192, lambda 0.0130) reaches {theirs['bpp']:.3f} bpp and "
        f"{theirs['psnr_db']:.2f} dB after {theirs['crops']} crops.\nThe default configuration, all rates in one "
        f"model, is {gain['ours']:.1f} dB above that at the same rate,\nand {gain['equal_crops']:.1f} dB when it stops "
        "after as many crops.\n\n"
        + markdown(["quality", *(f"{point['quality']:g}" for point in points)], rows)
        + f"\n{source('equal_time')}\n"
    )


def codec_seconds() -> str:
    """Seconds to encode and decode, beside CompressAI's models."""
    found = load("bench_codec.json")
    rows = [[name, f"{row['encode_s']:.3f}", f"{row['decode_s']:.3f}"] for name, row in found["rows"].items()]
    coder = found["coder"]
    return (
        f"\n{markdown(['', 'encode, s', 'decode, s'], rows)}\nThe coder alone writes "
        f"{coder['encode_msymbols_s']:.0f} and reads {coder['decode_msymbols_s']:.0f} million symbols a second on "
        f"one thread.\n\n{source('bench_codec.json')}\n"
    )


def in_percent(bd_rate: float | None) -> str:
    """Return a BD-rate as text."""
    return "no common PSNR" if bd_rate is None else f"{bd_rate:+.1f} %"


def in_db(quality_db: float | None) -> str:
    """Return a PSNR as text."""
    return "lossless" if quality_db is None else f"{quality_db:.2f}"


def limits() -> str:
    """What becomes of pictures that are not photographs."""
    rows = [
        [record["name"], record["codec"], f"{record['quality']:g}", f"{record['bpp']:.3f}", in_db(record["psnr_db"])]
        for record in load("shipped/limits.json")
    ]
    header = ["picture", "codec", "quality", "bpp", "PSNR dB"]
    return f"\n{markdown(header, rows)}\n*`results/shipped/limits.json`, by `scripts/train_shipped`*\n\n"


def own_parts() -> str:
    """What our own parts are worth beside those of libraries."""
    rows = [[row["part"], row["ours"], row["library"], row["theirs"]] for row in load("own_parts.json")["rows"]]
    header = ["part", "ours", "the library's", "it reaches"]
    return f"\n{markdown(header, rows)}\n{source('own_parts.json')}\n"


def fields() -> str:
    """Every field of the configuration with its default and description."""

    def walk(section: type[Section], prefix: str) -> Iterator[list[str]]:
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                yield from walk(field.annotation, f"{prefix}{name}.")
            else:
                value = None if field.is_required() else field.get_default(call_default_factory=True)
                shown = json.dumps(value, default=lambda part: part.model_dump())
                default = "required" if field.is_required() else shown
                yield [f"`{prefix}{name}`", f"`{default}`", (field.description or "").replace("|", "\\|")]
                if name == "phases":
                    yield from walk(Phase, f"{prefix}phases[].")

    lines = ["| field | default | |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in walk(Config, ""))]
    return "\n" + "\n".join(lines) + "\n\n"


def configs() -> str:
    """The shipped configurations and what each is for."""
    rows = [f"| `{name}` | {purpose} |" for name, purpose in shipped_configs().items()]
    return "\n" + "\n".join(["| name | |", "| --- | --- |", *rows]) + "\n\n"


def container() -> str:
    """Return the bytes of an .atc file, as the module that reads them describes them."""
    parts = (attncodec.container.__doc__ or "").strip().split("\n\n")
    shown = [f"```text\n{textwrap.dedent(part)}\n```" if part.startswith("    ") else part for part in parts]
    return "\n" + "\n\n".join(shown) + "\n\n"


def colours() -> str:
    """Return what becomes of every kind of colours, as the module that reads them has it."""
    table = (attncodec.pictures.colour.__doc__ or "").split("\n\n", 1)[1]
    return f"\n{textwrap.dedent(table).strip()}\n\n"


FIGURES: dict[str, Callable[[], str]] = {
    "shipped": shipped_curve,
    "summary": summary,
    "quickstart": quickstart,
    "exactness": exactness,
    "coding": coding,
    "dry_run": dry_run,
    "growth": growth,
    "training_speed": training_speed,
    "equal_time": equal_time,
    "codec_seconds": codec_seconds,
    "limits": limits,
    "own_parts": own_parts,
    "fields": fields,
    "configs": configs,
    "container": container,
    "colours": colours,
}
