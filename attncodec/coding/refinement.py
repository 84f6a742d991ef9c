"""More effort for a picture: the targets that its latents are rounded to move to where the file is better.

The format knows nothing of it, and files decode as fast as any.

Majorise and minimise: around the picture decoded now, what is to be paid for it, in bits, is about g (y - v) +
h (y - v)^2 and the bits of the symbols themselves. Here v is what the symbols stand for, g the gradient of the
distortion, and of the bits of those latents whose expectations come from this one, and h a curvature for each channel.
So rounding v - g / (2 h) in place of y, by the same rule, takes into account what the first rounding did not know of:
the synthesis, the other latents and the picture itself. Targets go a part of the way in each round, for g changes on
the way, and symbols with it.
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
    """How targets move. These numbers were found on training pictures."""

    rounds: int
    part: float  # of the way, in the first round
    context: bool  # whether the gradient is that of the bits of other latents, too

    def part_of(self, number: int) -> float:
        """Compute the part of the way that targets go in a round."""
        return max(self.part * DECAY**number, LEAST_PART)


REFINEMENT_SCHEDULES = (
    Schedule(0, 0.0, False),
    Schedule(2, 0.5, False),
    Schedule(8, 0.4, True),
    Schedule(30, 0.15, True),
)
DECAY, LEAST_PART = 0.88, 0.15
CURVATURE = 0.75  # h, over what rounding takes an error for,
JACOBIAN_PART = 0.5  # and at least this part of the squared norm of the synthesis' Jacobian, measured on the picture
WORTH_IT = 0.999  # what refinement must leave of the loss, at most: it is measured with transforms in bfloat16


@dataclass(frozen=True)
class Latents:
    """What a picture is encoded as.

    y: targets of the latents, (1, M, h, w), and z: (1, N, h, w), both without their gains. skip_below: the scale index
    below which nothing is coded. The last two are None as long as they follow from y.
    """

    y: Tensor
    z: Tensor | None = None
    skip_below: int | None = None


class ExpectationBottleneck(EncodeBottleneck):
    """Writes, and keeps what the symbols stand for: the mean of all y that get them, step by step."""

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
        """Count the bits of all that was written."""
        assert isinstance(self.sink, SymbolWriter)
        return 8 * len(self.sink.finish())


class PassThroughBottleneck:
    """Sends latents as they are, and counts the bits of their symbols.

    The gradient of these bits is that of the expectations which other latents give them.
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
    """Find the latents of the least bpp + lambda 255^2 MSE that are met, those given among them.

    x: (1, 3, H, W) in [0, 1]; effort: 1 to 3.
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
        skip_below = bottleneck.skip_below  # targets that have moved say nothing about what skipping costs
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
            if schedule.context and len(codec.prior.order) > 1:  # in one step nothing is expected from anything
                gradient = gradient + _context_gradient(sealed, y_hat, z, quality_index, skip_below)
            if not bool(torch.isfinite(gradient).all()):
                break
            target = torch.lerp(target, expected - gradient / (2 * curvature), schedule.part_of(number))
    return best


@torch.inference_mode()
def _write(
    sealed: SealedCodec, rounding: Rounding, target: Tensor, z: Tensor, quality_index: int, skip_below: int | None
) -> tuple[ExpectationBottleneck, Tensor, Tensor]:
    """Write targets -> the bottleneck, y_hat as the synthesis takes it, and what its symbols stand for."""
    found = list[Tensor]()

    def send(skip_below: int) -> ExpectationBottleneck:
        bottleneck = ExpectationBottleneck(sealed, skip_below, rounding)
        found.append(sealed.codec.transmit(bottleneck, torch.tensor([quality_index]), target, z).float())
        return bottleneck

    bottleneck = try_skipping(send, skip_below)
    y_hat = found[-1]
    return bottleneck, y_hat, sealed.codec.assemble(bottleneck.expected, (y_hat.shape[-2], y_hat.shape[-1])).float()


class _Decoded:
    """A picture as it is decoded: its error, in bits, and how it depends on y_hat."""

    def __init__(self, sealed: SealedCodec, x: Tensor, y_hat: Tensor, quality_index: int, gradients: bool) -> None:
        self.worth = rd_lambda_at(sealed.header.config.rd_lambdas, quality_index) * 255**2 / 3
        self.y_hat = y_hat.clone().requires_grad_(gradients)  # a tensor of inference mode has no gradients
        bf16 = torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(x.device))
        with torch.set_grad_enabled(gradients), bf16:
            size = (x.shape[-2], x.shape[-1])
            self.x_hat = sealed.codec.decode(self.y_hat, torch.tensor([quality_index]), size).float()
        self.error = self.x_hat.detach().clamp(0, 1) - x  # pixels end there, and overshoot is no error
        self.error_bits = self.worth * self.error.square().sum()

    def gradient(self) -> Tensor:
        """Compute the gradient of the error's bits, in the shape of y_hat; once."""
        (gradient,) = torch.autograd.grad(self.x_hat, self.y_hat, 2 * self.worth * self.error)
        return gradient

    def squared_jacobian(self) -> Tensor:
        """Estimate the squared norm of each channel's column of the Jacobian, in bits, (M, 1, 1).

        One random direction is enough (Hutchinson 1990).
        """
        signs = torch.randint(0, 2, self.x_hat.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
        (direction,) = torch.autograd.grad(self.x_hat, self.y_hat, signs, retain_graph=True)
        return self.worth * direction.square().mean((0, 2, 3))[:, None, None]


def _context_gradient(sealed: SealedCodec, y_hat: Tensor, z: Tensor, quality_index: int, skip_below: int) -> Tensor:
    """Compute the gradient of the bits of all latents by the latents that their expectations come from."""
    bottleneck, known = PassThroughBottleneck(skip_below), y_hat.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(y_hat.device)):
        sealed.dequantised.transmit(bottleneck, torch.tensor([quality_index]), known, z.clone())
    (gradient,) = torch.autograd.grad(bottleneck.bits, known)
    return gradient
