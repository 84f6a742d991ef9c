"""The figures of checks: mutants of the code, stripes, large pictures, hostile files, interruptions, a browser."""

from collections import Counter
from collections.abc import Callable

from sources import load, markdown, source

SHOWN = {"shows": "shows it", "shows in part": "shows a part of it", "refuses": "refuses it"}


def mutation() -> str:
    """Return how many changes of the code the tests notice."""
    found = load("mutation.json")
    rows = [[f"{found[key]:,}" for key in ("mutants", "tried", "killed")] + [f"{found['killed_percent']} %"]]
    return f"\n{markdown(['changes', 'tried', 'noticed', 'share'], rows)}\n{source('mutation.json')}\n"


def stripes() -> str:
    """Return what coding large pictures in stripes costs."""
    rows = []
    for picture in load("stripes.json")["pictures"].values():
        size = f"{picture['width']} x {picture['height']}"
        rows += [
            [
                size,
                f"{file['quality']:g}",
                *(f"{file[key]:,}" for key in ("one", "stripes")),
                f"{100 * file['cost']:+.2f} %",
            ]
            for file in picture["files"]
        ]
    header = ["pixels", "quality", "bytes as one", "bytes in stripes", "cost"]
    return f"\n{markdown(header, rows)}\n{source('stripes.json')}\n"


def large() -> str:
    """Memory, speed and regions on large pictures, for each model."""
    report = load("large.json")
    rows = [
        [
            f"{model['name']}, {row['width'] * row['height'] / 1e6:.0f} MP",
            *(f"{row[f'{way}_mp_s']:.2f}" for way in ("encode", "decode")),
            *(f"{row[f'{command}_peak_gib']:.2f}" for command in ("compress", "decompress")),
            f"{100 * model['region']['share_median']:.1f} %" if row is model["sizes"][-1] else "",
        ]
        for model in report["models"]
        for row in model["sizes"]
    ]
    grown = "; ".join(
        f"{model['name']} {model['compress_bytes_per_pixel']:.1f} to compress and "
        f"{model['decompress_bytes_per_pixel']:.1f} to decompress"
        for model in report["models"]
    )
    strips = report["models"][0]["strips"]
    header = ["model, pixels", "MP/s to encode", "MP/s to decode", "GiB, compress", "GiB, decompress", "region"]
    return (
        "\n"
        + markdown(header, rows)
        + f"\nBytes that memory grows by with each pixel: {grown}. On 12 megapixels in {strips['strips']} strips, "
        f"{strips['latents_differ']:.0%} of the integer latents differ from those of a single strip, and the PSNR is "
        f"{strips['psnr_db']:.3f} dB with both.\n\n{source('large.json')}\n"
    )


def hostile() -> str:
    """How readers take mutants of whole files."""
    report = load("hostile.json")
    rows = [
        [name, f"{found['mutants']:,}", f"{1000 * found['seconds_mean']:.1f} ms", f"{found['seconds_max']:.1f} s"]
        for name, found in report["targets"].items()
    ]
    peak = f"{report['peak_gib']:.2f} GiB, of which {report['idle_gib']:.2f} GiB before the first one"
    return (
        "\n"
        + markdown(["reader", "mutants", "mean", "slowest"], rows)
        + f"\nFaults: {len(report['faults'])}. Peak memory: {peak}.\n\n{source('hostile.json')}\n"
    )


def interrupted() -> str:
    """What kills and interruptions leave of a batch."""
    report = load("interrupted.json")
    kills, batch = report["kills"], report["batch"]
    kinds = ("found", "written", "skipped", "left_out", "failed")
    rows = [[name, *(str(batch[name][kind]) for kind in kinds)] for name in ("compress", "decompress")]
    outputs = f"{kills['whole']} outputs were whole, {kills['absent']} absent and {kills['half']} half written"
    return (
        f"\nAfter {kills['moments']} kills: {outputs}.\n\n"
        + markdown(["command", *(kind.replace("_", " ") for kind in kinds)], rows)
        + f"\n{source('interrupted.json')}\n"
    )


def browser() -> str:
    """Return how many odd files are read as a browser shows them."""
    found = load("browser.json")
    kinds = Counter(
        f"the browser {SHOWN[file['browser']]}; here it is {file['ours'].split(':')[0].split(' (')[0]}"
        for file in found["files"].values()
    )
    rows = [[kind, str(count)] for kind, count in kinds.most_common()]
    return (
        f"\n{len(found['files'])} files, drawn by {found['browser']}:\n\n"
        f"{markdown(['what becomes of a file', 'files'], rows)}\n{source('browser.json')}\n"
    )


CHECKS: dict[str, Callable[[], str]] = {
    "mutation": mutation,
    "stripes": stripes,
    "large": large,
    "hostile": hostile,
    "interrupted": interrupted,
    "browser": browser,
}
