"""Check that a model that has grown starts at the loss of its source.

    python scripts/studies/growth.py PICTURES [--model MODEL] [--out results/growth.json]

The model (the shipped one by default) grows by `train.init` in each possible way, and is validated as in the first
validation of a run, on the pictures that a run on PICTURES holds out. A difference of more than 0.1 % is an error.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from attncodec.coding.sealed import load_sealed
from attncodec.coding.shipped import shipped
from attncodec.config import Config, DataConfig, ModelConfig, TrainConfig
from attncodec.config_file import load_config
from attncodec.console import log_to_stderr
from attncodec.environment import versions
from attncodec.files import write_atomic
from attncodec.training import validation
from attncodec.training.init_from import load_initial
from attncodec.training.setup import load_held_out, load_pictures

LIMIT = 0.001


def kinds(model: ModelConfig) -> dict[str, ModelConfig]:
    """Return larger networks, by what they have more of."""
    w4, w8, w16 = model.widths
    more = tuple(count + 1 for count in model.analysis_blocks)
    changes: dict[str, dict[str, Any]] = {
        "blocks": {"analysis_blocks": more, "synthesis_blocks": tuple(count + 1 for count in model.synthesis_blocks)},
        "widths": {"widths": (w4 + w4 // 4, w8 + w8 // 4, w16 + w16 // 4)},
        "channels of y": {"latent_channels": model.latent_channels + 64},
        "channels of z": {"hyper_channels": model.hyper_channels + 64},
        "context networks": {"context_width": model.context_width + 64},
        "attention": {"attention": model.attention.model_copy(update={"strides": (8, 16)})},
    }
    everything = {key: value for change in changes.values() for key, value in change.items()}
    found = {"nothing": {}, **changes, "everything": everything}
    larger = {name: model.model_copy(update=change) for name, change in found.items()}
    networks = ("default", "large")
    return {**larger, **{f"configs/{n}.yaml": load_config(n).model for n in networks}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", type=Path, default=shipped())
    parser.add_argument("--out", type=Path, default=Path("results/growth.json"))
    options = parser.parse_args()
    log_to_stderr()
    source = load_sealed(options.model).header
    data, train = DataConfig(train=str(options.pictures), cache="none"), TrainConfig(init=str(options.model))
    held_out = load_held_out(load_pictures(Config(data=data)))
    found: dict[str, dict[str, Any]] = {}
    for name, model in kinds(source.config).items():
        config = Config(model=model, data=data, train=train)
        initial = load_initial(config)
        points = validation.validate(config, initial.codec.eval().reconstruct, held_out, lambda: False)
        assert points is not None
        loss = validation.mean_of(points).loss
        first = found["nothing"]["loss"] if found else loss
        found[name] = {"loss": loss, "percent": 100 * (loss / first - 1), "new": initial.new}
        print(f"{name:<24} {loss:.5f}  {100 * (loss / first - 1):+.4f} %", flush=True)
    result = {"source": source.decoder_id.hex(), "held_out": len(held_out), "kinds": found, "versions": versions("cpu")}
    write_atomic(options.out, (json.dumps(result, indent=2) + "\n").encode())
    if any(abs(kind["percent"]) > 100 * LIMIT for kind in found.values()):
        sys.exit("a model does not start at the loss of its source")


if __name__ == "__main__":
    main()
