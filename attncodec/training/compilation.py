"""This module compiles the networks with torch.compile where it works."""

import logging

import torch

from attncodec.networks.context import ContextModel
from attncodec.networks.hyperprior import HyperpriorCodec

logger = logging.getLogger(__name__)


def compile_networks(codec: HyperpriorCodec, device: torch.device) -> None:
    """Compile the networks in place, or log a warning and leave them as they are if torch.compile does not work."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # Most often a compiler is missing or too old; each backend raises its own error.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logger.warning("torch.compile does not work here, so training continues without it: %s", reason)
        return
    torch._dynamo.config.suppress_errors = True  # A network that does not compile runs as it is; torch logs which.
    torch._dynamo.config.recompile_limit = 64  # The limit is per code object, and the context networks share one.
    assert isinstance(codec.prior, ContextModel)
    context = codec.prior.networks
    # The hyper analysis is left out: torch 2.14 does not compile the backward pass of its edge padding.
    for network in (codec.analysis, codec.synthesis, context.hyper, *context.steps):
        network.compile(dynamic=False)
