"""Which device to train on."""

import torch

from attncodec.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` -> a device. Raises ConfigError for cuda where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no CUDA device here", "--device cpu, or auto, trains on the CPU")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
