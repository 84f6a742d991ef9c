"""Sealing turns a trained codec into integers and tables that never change again.

Training uses the analytic distribution of the latents and rounds to the nearest symbol, except in an optional last
phase. An encoder instead weighs bits against error. The effect of this is measured on crops of training pictures
(calibration.py). The ranges of the integer networks' activations are also measured on these crops.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from attncodec.coding.calibration import calibrate, one_thread, spread_levels
from attncodec.coding.integer_context import Ranges, activated, integer_tensors
from attncodec.coding.model_file import float_tensors, make_header, table_tensors
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.tables import Tables, factorised_tables, gaussian_tables
from attncodec.config import LatentRounding
from attncodec.networks.bottleneck import RoundBottleneck
from attncodec.networks.context import ContextModel
from attncodec.networks.hyperprior import HyperpriorCodec
from attncodec.networks.priors import LearnedPrior, clamp_symbols
from attncodec.quality import interpolate

RANGE_LEVELS = 3  # Ranges are measured at this many quality levels.
BATCH = 8


def seal(
    codec: HyperpriorCodec,
    training_info: dict[str, Any],
    crops: Tensor | None = None,
    z_tables: Tables | None = None,
    learned: LatentRounding = "nearest",
) -> SealedCodec:
    """Make a sealed codec from a trained one.

    `crops` of training pictures are (N, 3, H, W) in [0, 1], and H and W are multiples of 64. Without crops, tables are
    analytic, and nothing is measured. `z_tables` replace the tables of the codec's own prior of z. `learned` says how
    latents were rounded when the synthesis was last trained.

    Raises CheckpointError if a weight is not finite in 16 bits, or if the integer networks could overflow.
    """
    assert isinstance(codec.prior, ContextModel)
    if z_tables is None:
        assert isinstance(codec.z_prior, LearnedPrior)
        z_tables = factorised_tables(codec.z_prior, codec.log2_gain_z)
    ranges = Ranges.unknown(codec.config) if crops is None else measure_ranges(codec, crops)
    tensors = {
        **integer_tensors(codec.prior, codec.log2_gain, codec.log2_gain_z, ranges),
        **float_tensors(codec),
        **table_tensors(z_tables, "z"),
        **table_tensors(gaussian_tables(), "y"),
    }
    info = {**training_info, "crops_measured": 0 if crops is None else len(crops)}
    sealed = SealedCodec(make_header(codec.config, tensors, info), tensors)
    return sealed if crops is None else calibrate(sealed, crops, learned)


@one_thread()
@torch.inference_mode()
def measure_ranges(codec: HyperpriorCodec, crops: Tensor) -> Ranges:
    """Measure the ranges of the float networks on crops, at the lowest, a middle and the highest quality."""
    assert isinstance(codec.prior, ContextModel)
    prior, config = codec.prior, codec.config
    peaks: dict[str, Tensor] = {}
    y_peaks, z_peaks = torch.zeros(config.latent_channels), torch.zeros(config.hyper_channels)

    def note(name: str, output: Tensor) -> None:
        peak = output.abs().amax((0, 2, 3)).float().cpu()
        peaks[name] = torch.maximum(peaks[name], peak) if name in peaks else peak

    names = [(name, leaky) for name, _, leaky, _ in activated(prior.networks)]
    last_of_hyper = [name for name, _ in names if name.startswith("hyper.")][-1]
    with ExitStack() as stack:
        for name, leaky in names:
            handle = leaky.register_forward_hook(lambda _, __, output, name=name: note(name, output))
            stack.callback(handle.remove)
        for start in range(0, len(crops), BATCH):
            latents = codec.analyse(crops[start : start + BATCH])
            z = codec.hyper_analysis(latents)
            for quality_index in spread_levels(len(config.rd_lambdas), RANGE_LEVELS):
                at = torch.full((len(latents),), quality_index)
                y_hat = codec.transmit(RoundBottleneck(), at, codec.apply_gain(latents, at), z)
                y_peaks = torch.maximum(y_peaks, codec.remove_gain(y_hat, at).abs().amax((0, 2, 3)))
                step = torch.exp2(-interpolate(codec.log2_gain_z, at))[..., None, None]
                z_peaks = torch.maximum(z_peaks, (clamp_symbols(z / step) * step).abs().amax((0, 2, 3)))
    # The steps read the sum of the features of z and a bias for each quality, so the peak includes the bias.
    bias = prior.quality_bias.detach().abs().amax(0).cpu()
    peaks[last_of_hyper] = peaks[last_of_hyper] + bias
    return Ranges(peaks, y_peaks, z_peaks)
