"""The figures of README.md and docs/, made from files under results/, by name; reference.py has those of the code."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from evaluations import Results, at_same_rate, bd_rates, in_db, in_percent, model_of, points_of, title_of
from figures_of_checks import CHECKS
from reference import REFERENCE
from sources import RESULTS, load, markdown, source

from attncodec.coding.model_file import read_header
from attncodec.coding.shipped import shipped
from attncodec.evaluation.published import PUBLISHED
from attncodec.metrics import CURVE_AXES

SUMMARY = [PUBLISHED + name for name in ("bmshj2018-hyperprior", "cheng2020-attn", "vtm")]  # in the README


def table(place: str) -> str:
    """The table.md that a study wrote beside its JSON."""
    folder = place.removeprefix("results/")
    text = (RESULTS / folder / "table.md").read_text()
    return f"\n{text}\n{source(folder)}\n"


def shipped_results() -> dict[str, Any]:
    """Read the evaluation of the shipped model on Kodak."""
    results, header = load("shipped/kodak/results.json"), read_header(shipped())
    if results["models"][model_of(results)]["decoder_id"] != header.decoder_id.hex():
        raise SystemExit("results/shipped/kodak is not of the shipped model")
    return dict(results)


def beside_classic(results: Results, qualities: Collection[float]) -> list[list[str]]:
    """A row for each quality: the rate, the PSNR of the model, and that of classic codecs at the same rate."""
    others = at_same_rate(results)
    return [
        [
            f"{point['quality']:g}",
            f"{point['bpp']:.3f}",
            f"{point['psnr_db']:.2f}",
            *(in_db(others[codec][number]) for codec in others),
        ]
        for number, point in enumerate(points_of(results))
        if point["quality"] in qualities
    ]


def beside_header(results: Results) -> list[str]:
    """The header of the rows of `beside_classic`."""
    return ["quality", "bpp", "PSNR dB", *(title_of(results, codec) for codec in at_same_rate(results))]


def shipped_curve() -> str:
    """What the shipped model is, its curve on Kodak beside classic codecs, BD-rates, and what it costs."""
    results = shipped_results()
    about, points = results["models"][model_of(results)], points_of(results)
    encode, decode = (about["kmac_per_pixel"][way] for way in ("encode", "decode"))
    encode_s, decode_s = (fmean(point[way] for point in points) for way in ("encode_s", "decode_s"))
    peak_mib = max(point["peak_mib"] for point in points)
    rates = {codec: [title_of(results, codec), in_percent(rate)] for codec, rate in bd_rates(results).items()}
    return (
        f"\n{encode:.1f} kMAC/pixel to encode, {decode:.1f} to decode, {about['parameters'] / 1e6:.1f} M parameters; "
        f"{encode_s:.2f} s to encode a picture and {decode_s:.2f} s to decode it, {peak_mib:.0f} MiB at most. Kodak, "
        "24 pictures, real files, means; the PSNR of the other codecs is on their curve at the same bpp:\n\n"
        + markdown(beside_header(results), beside_classic(results, [point["quality"] for point in points]))
        + "\nIts BD-rate against these codecs, whose files were written here:\n\n"
        + markdown(["codec", "BD-rate"], [rates[codec] for codec in results["classic"]])
        + "\nIts BD-rate against published curves of the same pictures; below zero, this model needs fewer bits:\n\n"
        + markdown(["codec", "BD-rate"], [rates[codec] for codec in results["published"]])
        + f"\n{source('shipped/kodak')}\n"
    )


def summary() -> str:
    """The one table of the README: the shipped model at four qualities."""
    results = shipped_results()
    rates = bd_rates(results)

    def against(codecs: Iterable[str]) -> str:
        return ", ".join(f"{title_of(results, codec)} {in_percent(rates[codec])}" for codec in codecs)

    return (
        "\n"
        + markdown(beside_header(results), beside_classic(results, (2, 4, 6, 8)))
        + f"\nBD-rate: {against(results['classic'])}; against published curves: {against(SUMMARY)}.\n\n"
    )


def quickstart() -> str:
    """What the quickstart's codec reaches, beside classic codecs at the same rate."""
    header, rows = list[str](), []
    for pictures, title in (("coffee", "coffee"), ("kodak", "Kodak")):
        results = load(f"quickstart/{pictures}/results.json")
        (point,) = points_of(results)
        for axis in ("psnr_db", "ms_ssim_db"):
            others = at_same_rate(results, axis)
            header = ["", "bpp", "attncodec, 3 minutes", *(title_of(results, codec) for codec in others)]
            cells = [point[axis], *(values[0] for values in others.values())]
            rows.append([f"{title}, {CURVE_AXES[axis].title}", f"{point['bpp']:.3f}", *map(in_db, cells)])
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
