"""A learned density on the real line: the univariate model of Ballé et al. 2018 (arXiv 1802.01436, appendix 6.1)."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (1, 3, 3, 3, 3, 1)
INITIAL_SCALE = 4.0  # the density is about this wide at the start


class Density(nn.Module):
    """A density for each channel, whose cumulative distribution is a small network that can only rise.

    Parameters, initial values and results are those of CompressAI's EntropyBottleneck with init_scale=4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.matrices, self.biases, self.factors = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        layers = len(WIDTHS) - 1
        scale = INITIAL_SCALE ** (1 / layers)
        for number, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
            weight = math.log(math.expm1(1 / scale / outputs))
            self.matrices.append(nn.Parameter(torch.full((channels, outputs, inputs), weight)))
            self.biases.append(nn.Parameter(torch.empty(channels, outputs, 1).uniform_(-0.5, 0.5)))
            if number < layers - 1:
                self.factors.append(nn.Parameter(torch.zeros(channels, outputs, 1)))

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of P(value < x) for each channel, in the shape of x, (N, 1, K)."""
        for number, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            x = F.softplus(matrix) @ x + bias
            if number < len(self.factors):
                x = x + torch.tanh(self.factors[number]) * torch.tanh(x)
        return x
