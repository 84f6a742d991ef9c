"""More effort for a picture: its latents, refined by gradient descent through the decoder. The format knows nothing of
it, and files decode as fast as any."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attncodec.environment import has_bf16
from attncodec.model.channel import Anneal
from attncodec.model.codec import Codec, rd_lambda_at
from attncodec.model.prior import SKIP_LEVEL

STEPS = (0, 30, 100, 300)  # of gradient descent, at each effort, those of the efforts below it included
HOT, COLD = 0.3, 0.1  # temperatures
LEARNING_RATE = 0.003  # in steps of the quantiser, of Adam; a cosine brings it to zero


@dataclass(frozen=True)
class Latents:
    """What a picture is encoded as: y in units (1, M, h, w), and z; None until it differs from y's own."""

    units: Tensor
    z: Tensor | None = None


def refine(codec: Codec, x: Tensor, latents: Latents, position: int, steps: int) -> Latents:
    """Latents of less bpp + lambda 255^2 MSE at this quality, by stochastic Gumbel annealing (channel.Anneal).

    codec: floats throughout, with the probabilities of a sealed one. x: (1, 3, H, W) in [0, 1]. Seeded.
    """
    at = torch.tensor([position])
    y = codec.to_steps(latents.units.clone(), at)
    z = codec.hyper_analysis(latents.units.clone()) if latents.z is None else latents.z.clone()
    y, z = (latent.detach().requires_grad_() for latent in (y, z))
    optimiser = torch.optim.Adam([y, z], fused=True)
    generator = torch.Generator().manual_seed(position)
    height, width = x.shape[-2:]
    error_weight = rd_lambda_at(codec.config.levels, position) * 255**2
    for step in range(steps):
        done = step / steps
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
        channel = Anneal(HOT * (COLD / HOT) ** done, generator, SKIP_LEVEL)
        y_hat = codec.transmit(channel, at, y, z)  # in float32: the file's means must be met to a fraction of a step
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(x.device)):
            x_hat = codec.decode(y_hat, at, (height, width))
        loss = channel.bits.sum() / (height * width) + error_weight * (x_hat - x).square().mean()
        y.grad, z.grad = torch.autograd.grad(loss, [y, z])
        optimiser.step()
    with torch.no_grad():
        return Latents(codec.to_units(y, at), z.detach())
