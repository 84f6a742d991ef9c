"""What happens to a latent on its way from the encoder to the decoder.

A channel is handed each latent with what its prior knows, and returns what the decoder will see. Training,
validation, writing a file and reading one differ in the channel and in nothing else:

    channel   what the decoder sees                  side product
    Noise     rounded, gradients pass straight       bits, differentiable, of the latent plus uniform noise
    Round     rounded                                bits
    Write     rounded                                the bytes of z and y
    Read      what the bytes say                     -
"""

import zlib
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from attncodec.model.coder import Coder, Symbols
from attncodec.model.prior import FactorisedPrior, clamp_symbols, gaussian_bits, scale_index


class Channel(Protocol):
    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """z, or None where it is read, (B, N, h, w) of that shape -> z_hat."""
        ...

    def send_y(self, y: Tensor | None, mean: Tensor, log_scale: Tensor) -> Tensor:
        """y, or None where it is read, in quantiser steps, same shape as its mean and log scale -> y_hat."""
        ...


class Noise:
    """Training: uniform noise for the rate, straight-through rounding for the synthesis (Minnen & Singh 2020)."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.bits: Tensor = torch.zeros(())  # (B,) after a transmission

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        assert z is not None and prior is not None
        self.bits = prior.bits(z + self._noise(z)).flatten(1).sum(1)
        return _straight_through(z)

    def send_y(self, y: Tensor | None, mean: Tensor, log_scale: Tensor) -> Tensor:
        assert y is not None
        residual = y - mean
        self.bits = self.bits + gaussian_bits(residual + self._noise(residual), log_scale).flatten(1).sum(1)
        return _straight_through(residual) + mean

    def _noise(self, like: Tensor) -> Tensor:
        # Drawn on the CPU: the same numbers on every device.
        return torch.rand(like.shape, generator=self.generator).to(like.device) - 0.5


def _straight_through(x: Tensor) -> Tensor:
    return x + (clamp_symbols(x) - x).detach()


class Round:
    """Validation and estimates."""

    def __init__(self) -> None:
        self.bits: Tensor = torch.zeros(())  # (B,) after a transmission

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        assert z is not None and prior is not None
        z_hat = clamp_symbols(z)
        self.bits = prior.bits(z_hat).flatten(1).sum(1)
        return z_hat

    def send_y(self, y: Tensor | None, mean: Tensor, log_scale: Tensor) -> Tensor:
        assert y is not None
        symbols = clamp_symbols(y - mean)
        self.bits = self.bits + gaussian_bits(symbols, log_scale).flatten(1).sum(1)
        return symbols + mean


class Write:
    """Into a file: one picture, B = 1."""

    def __init__(self, z_coder: Coder, y_coder: Coder) -> None:
        self.z_coder, self.y_coder = z_coder, y_coder
        self.z = self.y = b""
        self.latents_crc = 0

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        assert z is not None
        symbols = clamp_symbols(z)
        self.z = self.z_coder.encode(self._checked(symbols), channel_index(shape))
        return symbols

    def send_y(self, y: Tensor | None, mean: Tensor, log_scale: Tensor) -> Tensor:
        assert y is not None
        symbols = clamp_symbols(y - mean)
        self.y = self.y_coder.encode(self._checked(symbols), to_index(log_scale))
        return symbols + mean

    def _checked(self, symbols: Tensor) -> Symbols:
        flat: Symbols = symbols.flatten().cpu().numpy().astype(np.int32)
        self.latents_crc = crc_latents(flat, self.latents_crc)
        return flat


class Read:
    """Out of a file: one picture, B = 1; the values handed in are ignored."""

    def __init__(self, z_coder: Coder, y_coder: Coder, z: bytes, y: bytes) -> None:
        self.z_coder, self.y_coder = z_coder, y_coder
        self.z, self.y = z, y
        self.latents_crc = 0

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        return self._checked(self.z_coder.decode(self.z, channel_index(shape)), shape)

    def send_y(self, y: Tensor | None, mean: Tensor, log_scale: Tensor) -> Tensor:
        symbols = self.y_coder.decode(self.y, to_index(log_scale))
        return self._checked(symbols, mean.shape).to(mean.device) + mean

    def _checked(self, flat: Symbols, shape: tuple[int, ...]) -> Tensor:
        self.latents_crc = crc_latents(flat, self.latents_crc)
        return torch.from_numpy(flat.astype(np.float32)).reshape(shape)


def channel_index(shape: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """The table of each element of z, (1, N, h, w) flattened: the number of its channel."""
    return np.repeat(np.arange(shape[1], dtype=np.uint16), shape[2] * shape[3])


def to_index(log_scale: Tensor) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The table of each element of y, (1, M, h, w) flattened: the level of its scale."""
    index: np.ndarray[tuple[int], np.dtype[np.uint8]] = scale_index(log_scale).flatten().cpu().numpy()
    return index


def crc_latents(symbols: Symbols, crc: int) -> int:
    """CRC-32 of integer latents as int16, going on from `crc`."""
    return zlib.crc32(symbols.astype("<i2").tobytes(), crc)
