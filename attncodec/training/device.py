"""Which device to train on, and in which precision."""

import torch

from attncodec.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` -> a device. Raises ConfigError for cuda where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no CUDA device here", "--device cpu, or auto, trains on the CPU")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself: elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512", "DEFAULT"):
        # Newer torch has public names for neither; an older one without them trains in float32.
        checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(check is not None and check() for check in checks)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
