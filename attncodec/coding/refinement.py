"""Refinement spends more effort on a picture: it moves the targets, which are rounded to symbols, to improve the file.

The format does not depend on it, and the files decode as fast as any.

The method is majorise-minimise. Around the picture that the present symbols decode to, the cost in bits is about
g (y - v) + h (y - v)^2 plus the bits of the symbols themselves. Here v is the value that a symbol stands for, and h is
a curvature for each channel. g is the gradient of the distortion, and of the bits of those latents whose entropy
parameters depend on this latent. So rounding v - g / (2 h) instead of y, by the same rule, takes into account what the
first rounding ignored: the synthesis, the other latents and the picture itself. In each round, targets move only part
of the way, because g changes on the way, and the symbols change with it.

Each stripe is refined as if it were the picture, so memory is that of a stripe. What lies beyond its edges is ignored,
which costs nothing that could be measured on stripes of 512 rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attncodec.coding.bottlenecks import EncodeBottleneck, try_skipping
from attncodec.coding.range_coder import SymbolWriter
from attncodec.coding.sealed import SealedCodec
from attncodec.environment import has_bf16
from attncodec.networks.bottleneck import Elements, Rounding
from attncodec.networks.priors import FactorisedPrior, SideInfo, clamp_symbols, gaussian_bits
from attncodec.quality import rd_lambda_at


@dataclass(frozen=True)
class Schedule:
    """Sets how targets move. The numbers in use were found on training pictures."""

    rounds: int
    part: float  # Targets move by this part of the way in the first round.
    context: bool  # If true, the gradient includes the bits of other latents.

    def part_of(self, number: int) -> float:
        """Compute the part of the way that targets move in a round."""
        return max(self.part * DECAY**number, LEAST_PART)


REFINEMENT_SCHEDULES = (
    Schedule(0, 0.0, False),
    Schedule(2, 0.5, False),
    Schedule(8, 0.4, True),
    Schedule(30, 0.15, True),
)
DECAY, LEAST_PART = 0.88, 0.15
CURVATURE = 0.75  # h is at least this times the `error_bits` of rounding.
JACOBIAN_PART = 0.5  # h is at least this times the squared norm of the synthesis' Jacobian, measured on the picture.
# Refined latents are only taken if their loss is below this part of the first one, because losses are measured with
# transforms in bfloat16.
WORTH_IT = 0.999


@dataclass(frozen=True)
class Latents:
    """Holds what a picture is encoded as.

    `y` (1, M, h, w) holds the targets of the latents, and `z` is (1, N, h, w), both without their gains. Elements with
    a scale index below `skip_below` are not coded. `z` and `skip_below` are None as long as they follow from `y`.
    """

    y: Tensor
    z: Tensor | None = None
    skip_below: int | None = None


class ExpectationBottleneck(EncodeBottleneck):
    """Writes latents, and keeps for each step what its symbols stand for: the mean of all y with the same symbol."""

    def __init__(self, sealed: SealedCodec, skip_below: int, rounding: Rounding) -> None:
        super().__init__(SymbolWriter(), sealed.z_tables, sealed.y_tables, skip_below, rounding)
        self.expected = list[Tensor]()

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """See `Bottleneck`."""
        y_hat = super().send_y(y, elements)
        centres = self.rounding.centres if self.rounding else None
        symbols = (y_hat - elements.mean).round()
        self.expected.append(y_hat if centres is None else y_hat + centres.outward(symbols, elements.scale_index))
        return y_hat

    def file_bits(self) -> int:
        """Return the number of bits written so far."""
        assert isinstance(self.sink, SymbolWriter)
        return 8 * len(self.sink.finish())


class PassThroughBottleneck:
    """Sends latents unchanged, and counts the bits that a Gaussian gives to values which need not be integers.

    These bits have a gradient only through the entropy parameters, which depend on other latents.
    """

    def __init__(self, skip_below: int) -> None:
        self.skip_below, self.bits = skip_below, torch.zeros(())

    def send_z(self, prior: FactorisedPrior | None, z: Tensor | None, side: SideInfo) -> Tensor:
        """See `Bottleneck`."""
        assert z is not None
        return clamp_symbols(z)

    def send_y(self, y: Tensor | None, elements: Elements) -> Tensor:
        """See `Bottleneck`."""
        assert y is not None
        coded = elements.valid & (elements.scale_index >= self.skip_below)
        bits = gaussian_bits((y.detach() - elements.mean).float(), elements.scale_index.float())
        self.bits = self.bits + (bits * coded).sum()
        return y


def refine(sealed: SealedCodec, x: Tensor, latents: Latents, quality_index: int, effort: int) -> Latents:
    """Return the latents with the lowest bpp + lambda 255^2 MSE of all rounds, or those given if no round is better.

    `x` has shape (1, 3, H, W) and values in [0, 1], and is coded as one stripe. `effort` is 1 to 3.
    """
    codec, at, schedule = sealed.codec, torch.tensor([quality_index]), REFINEMENT_SCHEDULES[effort]
    rounding = sealed.rounding(quality_index)
    curvature = CURVATURE * rounding.error_bits[:, None, None]
    with torch.inference_mode():
        z = codec.hyper_analysis(latents.y) if latents.z is None else latents.z
        target = codec.apply_gain(latents.y, at)
    best, best_bits, skip_below = latents, float("inf"), latents.skip_below
    for number in range(schedule.rounds + 1):
        last = number == schedule.rounds
        bottleneck, y_hat, expected = _write(sealed, rounding, target, z, quality_index, skip_below)
        skip_below = bottleneck.skip_below  # Moved targets say nothing about the cost of skipping.
        picture = _Decoded(sealed, x, y_hat, quality_index, gradients=not last)
        loss_bits = bottleneck.file_bits() + float(picture.error_bits)
        if not number:
            best_bits = WORTH_IT * loss_bits
            curvature = torch.maximum(curvature, JACOBIAN_PART * picture.squared_jacobian())
        elif loss_bits < best_bits:
            with torch.inference_mode():
                best, best_bits = Latents(codec.remove_gain(target, at), z, skip_below), loss_bits
        if not last:
            gradient = picture.gradient()
            if schedule.context and len(codec.prior.order) > 1:  # In one step, no latent depends on others.
                gradient = gradient + _context_gradient(sealed, y_hat, z, quality_index, skip_below)
            if not bool(torch.isfinite(gradient).all()):
                break
            target = torch.lerp(target, expected - gradient / (2 * curvature), schedule.part_of(number))
    return best


@torch.inference_mode()
def _write(
    sealed: SealedCodec,
    rounding: Rounding,
    target: Tensor,
    z: Tensor,
    quality_index: int,
    skip_below: int | None,
) -> tuple[ExpectationBottleneck, Tensor, Tensor]:
    """Write targets. Return the bottleneck, y_hat as the synthesis takes it, and what its symbols stand for."""
    codec, found = sealed.codec, list[Tensor]()

    def send(skip_below: int) -> list[ExpectationBottleneck]:
        bottleneck = ExpectationBottleneck(sealed, skip_below, rounding)
        found.append(codec.transmit(bottleneck, torch.tensor([quality_index]), target, z).float())
        return [bottleneck]

    (bottleneck,) = try_skipping(send, skip_below)
    expected = codec.assemble(bottleneck.expected, (target.shape[-2], target.shape[-1]))
    return bottleneck, found[-1], expected.float()


class _Decoded:
    """Decodes a picture, and computes its error in bits and how that depends on y_hat."""

    def __init__(self, sealed: SealedCodec, x: Tensor, y_hat: Tensor, quality_index: int, gradients: bool) -> None:
        self.worth = rd_lambda_at(sealed.header.config.rd_lambdas, quality_index) * 255**2 / 3
        self.y_hat = y_hat.clone().requires_grad_(gradients)  # A tensor of inference mode has no gradients.
        with torch.set_grad_enabled(gradients), sealed.precision(has_bf16(sealed.device)):
            self.x_hat = sealed.decode(self.y_hat, quality_index, (x.shape[-2], x.shape[-1])).float()
        self.error = self.x_hat.detach().clamp(0, 1) - x.to(
            sealed.device
        )  # Pixels are clamped, so overshoot is no error.
        self.error_bits = self.worth * self.error.square().sum()

    def gradient(self) -> Tensor:
        """Compute the gradient of `error_bits`, in the shape of y_hat. This frees the graph, so call it only once."""
        (gradient,) = torch.autograd.grad(self.x_hat, self.y_hat, 2 * self.worth * self.error)
        return gradient

    def squared_jacobian(self) -> Tensor:
        """Estimate the squared norm of each channel's column of the Jacobian, in bits, (M, 1, 1).

        One random direction is enough (Hutchinson 1990).
        """
        signs = torch.randint(0, 2, self.x_hat.shape, generator=torch.Generator().manual_seed(0)).to(self.x_hat) * 2 - 1
        (direction,) = torch.autograd.grad(self.x_hat, self.y_hat, signs, retain_graph=True)
        return self.worth * direction.square().mean((0, 2, 3))[:, None, None]


def _context_gradient(sealed: SealedCodec, y_hat: Tensor, z: Tensor, quality_index: int, skip_below: int) -> Tensor:
    """Compute the gradient of the bits of all latents with respect to the latents that predict them."""
    bottleneck, known = PassThroughBottleneck(skip_below), y_hat.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(y_hat.device)):
        sealed.dequantised.transmit(bottleneck, torch.tensor([quality_index]), known, z.clone())
    (gradient,) = torch.autograd.grad(bottleneck.bits, known)
    return gradient
