"""The figures of README.md and docs/, made from files under results/, by name; reference.py has those of the code."""

from collections.abc import Callable
from pathlib import Path

from figures_of_checks import CHECKS
from reference import REFERENCE
from sources import RESULTS, load, markdown, source

from attncodec.coding.model_file import read_header
from attncodec.coding.shipped import shipped
from attncodec.networks.complexity import complexity, each_way

PUBLISHED = ("jpeg", "jpeg2000", "webp", "bmshj2018-hyperprior", "hm", "mbt2018-mean", "av1", "cheng2020-attn", "vtm")


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
    header = ["part", "ours", "the library's", "what the library's reaches"]
    return f"\n{markdown(header, rows)}\n{source('own_parts.json')}\n"


FIGURES: dict[str, Callable[[], str]] = {
    **CHECKS,
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
    **REFERENCE,
}
