"""Measure what context networks are worth if they start untrained inside the shipped model, with all else frozen.

    python scripts/study_context.py PICTURES [--minutes 15] [--only NAMES] [--out results/context]

    four networks        as shipped: an adaptor, a body and a head for each of the four steps
    one shared body      an adaptor and a head for each step, one body for all, 384 wide
    four wider networks  as shipped, 384 wide

All train for equal time. The rest of the model, and so its latents, stays as shipped. So all have about the same PSNR
(not exactly, because the difference to the mean is rounded) and differ in rate. The rate is that of the float networks,
on the pictures that the runs held out, at qualities 1, 4 and 8. Nothing should run beside it. Results that exist are
not made again.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from variants import RESULT, Results, in_child, load_results, save_results

from attncodec.config import Config, ModelConfig
from attncodec.config_file import load_config
from attncodec.console import log_to_stderr
from attncodec.files import write_atomic
from attncodec.networks.blocks import Up, leaky
from attncodec.networks.complexity import complexity
from attncodec.networks.context import CELLS_IN_Z, coding_order
from attncodec.networks.hyperprior import build_codec
from attncodec.training import setup
from attncodec.training.device import resolve_device
from attncodec.training.init_from import Initial, load_initial
from attncodec.training.train import train as train_run

WIDER = 384
FROZEN = "[analysis, gains, hyper_analysis, z_prior, synthesis]"
OVERRIDES = (
    "train.init=shipped",
    "train.lr=1.5e-3",
    "train.batch=16",
    "data.crop=192",
    "train.validations=1",
    f"train.phases=[{{share: 1, frozen: {FROZEN}}}]",
)


class SharedNetworks(nn.Module):
    """Context networks with an adaptor and a head for each step, and one body."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, order = config.context_width, coding_order(config.context, config.latent_channels)
        elements = 4 * config.latent_channels // len(order)
        self.hyper = leaky(Up(config.hyper_channels, width, CELLS_IN_Z), nn.Conv2d(width, width, 3, padding=1))
        body = leaky(nn.Conv2d(width, width, 3, padding=1))
        self.steps = nn.ModuleList()
        for step in range(len(order)):
            head = nn.Conv2d(width, 2 * elements, 1)
            with torch.no_grad():
                for parameter in head.parameters():
                    parameter.mul_(0.1)
            self.steps.append(nn.Sequential(*leaky(nn.Conv2d(width + step * elements, width, 1)), body, head))


VARIANTS = {
    "four networks": (256, None),
    "one shared body": (WIDER, SharedNetworks),
    "four wider networks": (WIDER, None),
}


COLUMNS = ("networks", "steps", "kMAC/pixel", "parameters", "bpp at 1", "at 4", "at 8", "mean change")


def run_of(name: str) -> Path:
    return Path("runs") / f"study_context-{name.replace(' ', '-')}"


def train(name: str, pictures: Path, minutes: float) -> None:
    """Train and measure a variant; this runs in a process of its own, because patches stay."""
    log_to_stderr()
    from attncodec.networks import context
    from attncodec.training import checkpoint, trainer

    width, networks = VARIANTS[name]
    to_bytes = checkpoint.to_bytes

    def untrained(config: Config) -> Initial:
        shipped = config.model_copy(update={"model": config.model.model_copy(update={"context_width": 256})})
        source = load_initial(shipped).codec
        if networks:
            # This comes after the shipped model was built, because that needs the networks that it was shipped with.
            setattr(context, "ContextNetworks", networks)  # noqa: B010 - patched on purpose
        torch.manual_seed(config.train.seed)
        codec = build_codec(config.model)
        weights = {key: tensor for key, tensor in source.state_dict().items() if not key.startswith("prior.")}
        assert not codec.load_state_dict(weights, strict=False).unexpected_keys
        return Initial(codec, "all but the context networks", "these")

    setup.load_initial = untrained
    trainer.Trainer.seal = lambda self: None  # a shared body has no integer version yet
    # A state dict lists the shared body once for each step, and safetensors would refuse that.
    checkpoint.to_bytes = lambda tensors, meta: to_bytes({n: t.clone() for n, t in tensors.items()}, meta)
    overrides = [f"data.train={pictures}", f"train.budget={round(60 * minutes)}s", f"model.context_width={width}"]
    config = load_config(Path("configs/shipped.yaml"), [*OVERRIDES, *overrides])
    train_run(config, run_of(name), resolve_device("cpu"))
    with (run_of(name) / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "validation"]
    model = load_config(run_of(name) / "config.yaml").model
    kmac, parameters = complexity(model)["context"][0], context.ContextModel(model).networks.parameters()
    points = {row["quality"]: float(row["bpp"]) for row in rows if row["quality"]}
    found: dict[str, Any] = {
        "bpp": points,
        "psnr_db": {row["quality"]: float(row["psnr_db"]) for row in rows if row["quality"]},
    }
    found |= {"steps": int(rows[-1]["step"]), "kmac_per_pixel": kmac, "parameters": sum(p.numel() for p in parameters)}
    write_atomic(run_of(name) / RESULT, json.dumps(found).encode())


def table(results: Results) -> str:
    """Format a Markdown table, with changes of rate against the first variant."""
    first = next(iter(results.values()))
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
    for name, found in results.items():
        changes = [found["bpp"][quality] / first["bpp"][quality] - 1 for quality in first["bpp"]]
        cells = [name, str(found["steps"]), f"{found['kmac_per_pixel']:.1f}", f"{found['parameters'] / 1e6:.1f} M"]
        cells += [f"{rate:.4f}" for rate in found["bpp"].values()]
        lines.append(f"| {' | '.join(cells)} | {100 * sum(changes) / len(changes):+.2f} % |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("results/context"))
    parser.add_argument("--train", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        return train(options.train, options.pictures, options.minutes)
    options.out.mkdir(parents=True, exist_ok=True)
    file, settings = options.out / "context.json", {"minutes": options.minutes}
    results = load_results(file, settings)
    for name in options.only.split(","):
        if name not in results:
            results[name] = in_child(__file__, options, name, run_of(name))
            save_results(file, settings, results)
            write_atomic(options.out / "table.md", table(results).encode())
    print((options.out / "table.md").read_text())


if __name__ == "__main__":
    main()
