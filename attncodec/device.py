"""This module chooses the device to train on, or to run a codec's transforms on."""

import os

import torch
from torch import Tensor

from attncodec.distributed import is_under_torchrun
from attncodec.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`; of several GPUs, the one that torchrun assigns to this process.

    Raises ConfigError for another name, or if `cuda` is asked for and there is no GPU, or none for this process.
    """
    if name not in DEVICES:
        raise ConfigError(f"device: there is no {name!r:.100}", f"choose one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no CUDA device", "use --device cpu or auto for the CPU")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device(name)
    number = int(os.environ["LOCAL_RANK"]) if is_under_torchrun() else 0
    if number >= torch.cuda.device_count():
        raise ConfigError(f"there is no GPU for process {number} of this machine", "start only as many as it has GPUs")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor without waiting for a GPU, which copies it from pinned memory when it is ready."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.contiguous().pin_memory()
    return tensor.to(device, non_blocking=True)
