"""Compare all kinds of attention in the same place, trained for equal time and for equal steps on the same pictures.

    python scripts/studies/attention.py PICTURES [--minutes 4] [--steps 250] [--config default]
                                      [--out results/attention] [--runs runs]

Seed, crops and everything else except `model.attention.kind` are the same. The runs are RUNS/attention-TABLE-KIND, and
they are measured on the pictures that they held out of training, through real files. OUT gets time.json and steps.json
with all figures, table.md with both tables, and rd.png. Figures are means over held-out pictures and, except for the
BD-rate and rd.png, over four qualities. The BD-rate is against `none`; a negative one means less rate at equal PSNR.
The memory is the most that the training process ever held, its pictures included. With the defaults it takes about 45
minutes on two cores, and nothing should run beside it. Results that exist are not made again.
"""

import argparse
import io
from pathlib import Path
from statistics import fmean

from looking import learned
from variants import (
    Results,
    change,
    costs_each_way,
    held_out,
    in_child,
    load_results,
    save_results,
    train_and_measure,
)

from attncodec.coding.sealed import load_sealed
from attncodec.files import write_atomic
from attncodec.networks.attention import ATTENTION

KINDS = ("none", *(kind for kind in ATTENTION if kind != "none"))
TABLES = ("time", "steps")


def run_of(options: argparse.Namespace, name: str) -> Path:
    return options.runs / f"attention-{name}"


def budget(options: argparse.Namespace, table: str) -> str:
    return f"{round(options.minutes * 60)}s" if table == "time" else str(options.steps)


def look(run: Path, pictures: Path) -> str:
    """Describe in a line what a kind learned, as seen on the first held-out picture at mid quality."""
    sealed = load_sealed(run / "model.safetensors")
    middle = sealed.quality_index((1 + len(sealed.header.config.rd_lambdas)) / 2)
    return learned(sealed, held_out(run, pictures)[0], middle)


def markdown(results: Results) -> str:
    """Format a Markdown table with a row for each kind."""
    lines = [
        "| kind | bpp | PSNR dB | BD-rate | kMAC/pixel each way | parameters | steps | crops/s | memory | learned |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for kind, found in results.items():
        rate_bpp, quality_db = (fmean(point[key] for point in found["points"]) for key in ("bpp", "psnr_db"))
        bd_rate = change(results["none"], found)
        lines.append(
            f"| {kind} | {rate_bpp:.3f} | {quality_db:.2f} | {bd_rate} | {costs_each_way(found)} "
            f"| {found['parameters'] / 1e6:.2f} M | {found['steps']} | {found['crops_per_s']:.1f} "
            f"| {found['peak_gib']:.1f} GiB | {found['learned']} |"
        )
    return "\n".join(lines) + "\n"


def plot(tables: dict[str, Results], titles: dict[str, str]) -> bytes:
    """Plot rate-distortion curves, a panel for each table, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(tables), figsize=(6 * len(tables), 5), sharey=True, squeeze=False)
    for axes, (name, results) in zip(panels[0], tables.items(), strict=True):
        for kind, found in results.items():
            points = found["points"]
            axes.plot([p["bpp"] for p in points], [p["psnr_db"] for p in points], marker="o", label=kind)
        axes.set(title=titles[name], xlabel="bits per pixel, whole files", ylabel="PSNR in dB")
        axes.grid(alpha=0.3)
        axes.legend()
    file = io.BytesIO()
    figure.savefig(file, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--config", default="default")
    parser.add_argument("--out", type=Path, default=Path("results/attention"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        table, kind = options.train.split("-")
        variant = (f"model.attention.kind={kind}",)
        run = run_of(options, options.train)
        return train_and_measure(variant, options.config, options.pictures, budget(options, table), run)
    options.out.mkdir(parents=True, exist_ok=True)
    titles = {"time": f"equal time: {options.minutes:g} minutes", "steps": f"equal steps: {options.steps}"}
    tables: dict[str, Results] = {}
    for table in TABLES:
        file, settings = (
            options.out / f"{table}.json",
            {"budget": budget(options, table), "config": Path(options.config).with_suffix(".yaml").name},
        )
        results = tables[table] = load_results(file, settings)
        for kind in KINDS:
            if kind in results:
                continue
            name = f"{table}-{kind}"
            run = run_of(options, name)
            results[kind] = {**in_child(__file__, options, name, run), "learned": look(run, options.pictures)}
            save_results(file, settings, results)
            text = "\n".join(f"{titles[table]}\n\n{markdown(results)}" for table, results in tables.items())
            write_atomic(options.out / "table.md", text.encode())
    write_atomic(options.out / "rd.png", plot(tables, titles))
    print((options.out / "table.md").read_text())


if __name__ == "__main__":
    main()
