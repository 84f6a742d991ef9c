"""Growth copies old weights into larger networks. What is added changes nothing before it has learned.

    blocks              New blocks are the identity: their last convolution is zero.
    attention           New attention, where there was none, is the identity.
    widths              Old channels read nothing from new ones; new ones read all.
    channels of y       New ones are the DCT coefficients that follow the old ones. Their quantisation steps are so
                        coarse that they are always zero. They stand at the end of each quarter of the channels, as
                        coding_order.quadtree counts them.
    channels of z       The quantisation steps of new ones are so coarse that they are always zero.

A new weight that is multiplied by what is always zero keeps its random start: two zeros in a row would never learn.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from attncodec.config import ModelConfig
from attncodec.config_file import flatten
from attncodec.errors import ConfigError
from attncodec.networks.context import ContextModel
from attncodec.networks.hyperprior import SILENT_OCTAVES, HyperpriorCodec, build_codec
from attncodec.networks.transforms import dct_basis

SILENT_Y, SILENT_Z = SILENT_OCTAVES - 1, -10.0  # New channels have these log2 gains.
STRIDES = (4, 8, 16)
WIDENED = ("gated", "none")  # These kinds of attention compute the same when channels are added.
GROWS = ("latent_channels", "hyper_channels", "context_width", "widths", "analysis_blocks", "synthesis_blocks")
ATTENTION = "attention."
Transform = Literal["analysis", "synthesis"]
TRANSFORMS: tuple[Transform, ...] = ("analysis", "synthesis")
# These read y_hat and z_hat, whose new channels are always zero.
READ_SILENCE = ("synthesis.linear.weight", "synthesis.network.0.weight", "prior.networks.hyper.0.0.weight")


def refusals(old: ModelConfig, new: ModelConfig) -> list[str]:
    """Return the reasons why a codec of `old` cannot grow into one of `new`, one for each key."""
    found, before, after = [], flatten(old.model_dump()), flatten(new.model_dump())
    for key in after:
        if not key.startswith(ATTENTION) and before[key] != after[key]:
            change = f"model.{key} ({before[key]} -> {after[key]})"
            if key not in GROWS:
                found.append(f"{change} makes a different codec")
            elif any(ours < theirs for ours, theirs in zip(_numbers(after[key]), _numbers(before[key]), strict=True)):
                found.append(f"{change} removes channels or blocks")
            elif key == "widths" and bool(before[key][0]) != bool(after[key][0]):
                found.append(f"{change} starts at another stride")
    for transform in TRANSFORMS:
        for stride, width, wider, was, becomes in _attention(old, new, transform):
            place = f"model.attention of the {transform} at stride {stride}"
            same = ("heads", "window", "hidden")
            if was not in (becomes, "none"):
                found.append(f"{place} ({was} -> {becomes}) computes something different")
            elif was not in WIDENED and any(getattr(old.attention, k) != getattr(new.attention, k) for k in same):
                found.append(f"{place} ({was}) has different heads, windows or hidden widths")
            elif old.attention.options.get(was) != new.attention.options.get(was):
                found.append(f"{place} ({was}) has different options")
            elif was not in WIDENED and width != wider:
                found.append(f"{place} ({was}, {width} -> {wider} channels) normalises over all channels of a head")
    return found


def additions(old: ModelConfig, new: ModelConfig) -> list[str]:
    """Describe in words what a codec of `new` has in addition to one of `old`."""
    names = {
        "latent_channels": "channels of y",
        "hyper_channels": "channels of z",
        "context_width": "channels of the context networks",
    }
    found = [f"{more} {name}" for key, name in names.items() if (more := getattr(new, key) - getattr(old, key))]
    for key, name in (
        ("widths", "channels"),
        ("analysis_blocks", "analysis blocks"),
        ("synthesis_blocks", "synthesis blocks"),
    ):
        for stride, few, many in zip(STRIDES, getattr(old, key), getattr(new, key), strict=True):
            if many > few:
                found.append(f"{many - few} {name} at stride {stride}")
    for transform in TRANSFORMS:
        for stride, _, _, was, becomes in _attention(old, new, transform):
            if was != becomes:
                found.append(f"{becomes} attention of the {transform} at stride {stride}")
    return found


def grow(source: HyperpriorCodec, config: ModelConfig) -> HyperpriorCodec:
    """Make a codec of `config` that computes the same as `source`.

    Raises ConfigError, which names the keys, if `source` cannot grow into such a codec.
    """
    reasons = refusals(source.config, config)
    if reasons:
        hint = "use the values of that file, or train without train.init"
        raise ConfigError(f"its networks cannot grow into those of the configuration: {'; '.join(reasons)}", hint)
    grown = build_codec(config)
    _add_silent_channels(source, grown)
    for transform in TRANSFORMS:
        network, roles = getattr(grown, transform).network, getattr(grown, transform).roles
        for layer, role in zip(network, roles, strict=True):
            if role.startswith("block") and role not in getattr(source, transform).roles:
                for parameter in layer.conv2.parameters():
                    nn.init.zeros_(parameter)
    theirs, places = grown.state_dict(), Places(source, grown)
    for name, tensor in source.state_dict().items():
        target, index = theirs[places.name(name)], places.index(name, tensor)
        if tensor.dim() == 4 and name not in READ_SILENCE:
            target[index[0].flatten()] = 0  # Old channels read nothing from new ones.
        target[index] = tensor
    return grown


def _add_silent_channels(source: HyperpriorCodec, grown: HyperpriorCodec) -> None:
    """Make all channels of y and z silent; the old ones are copied over them later."""
    old, new = source.config.latent_channels, grown.config.latent_channels
    with torch.no_grad():
        grown.log2_gain.fill_(SILENT_Y)
        grown.log2_gain_z.fill_(SILENT_Z)
        added = sorted(set(range(new)) - set(_old_channels(old, new).tolist()))
        basis = dct_basis(new)[old:, :, None, None]
        grown.analysis.linear.weight[added] = basis
        grown.synthesis.linear.weight[:, added] = basis.transpose(0, 1)
        latent_std = source.analysis.latent_std.quantile(0.25)  # High frequencies are weak on photographs.
        grown.analysis.latent_std.fill_(latent_std)
        grown.synthesis.latent_std.fill_(latent_std)
        assert isinstance(grown.prior, ContextModel)
        for step in grown.prior.networks.steps:
            assert isinstance(step, nn.Sequential)
            for parameter in step[-1].parameters():  # The means become 0, and the scales 1.
                nn.init.zeros_(parameter)


class Places:
    """Maps each tensor of a codec, and each of its channels, to its place in a larger codec."""

    def __init__(self, source: HyperpriorCodec, grown: HyperpriorCodec) -> None:
        assert isinstance(source.prior, ContextModel) and isinstance(grown.prior, ContextModel)
        self.roles = {name: (getattr(source, name).roles, getattr(grown, name).roles) for name in TRANSFORMS}
        few, many = source.config.latent_channels, grown.config.latent_channels
        latent = _old_channels(few, many)
        self.channels: dict[tuple[str, int], Tensor] = {
            ("analysis.linear.weight", 0): latent,
            ("analysis.head.weight", 0): latent,
            ("analysis.head.bias", 0): latent,
            ("analysis.latent_std", 0): latent,
            ("synthesis.latent_std", 0): latent,
            ("synthesis.linear.weight", 1): latent,
            ("synthesis.network.0.weight", 1): latent,
            ("hyper_analysis.network.0.weight", 1): latent,
            ("log2_gain", 1): latent,
        }
        width, wider = source.config.context_width, grown.config.context_width
        known, known_before = [torch.arange(width)], wider
        for step, (old, new) in enumerate(zip(source.prior.order, grown.prior.order, strict=True)):
            # A step codes the latents 4 * channel + place in an order of its own.
            place = {int(latent): number for number, latent in enumerate(new)}
            here = torch.tensor([place[int(4 * latent[at // 4] + at % 4)] for at in old])
            name = f"prior.networks.steps.{step}"
            self.channels[f"{name}.0.weight", 1] = torch.cat(known)
            for parameter in ("weight", "bias"):
                self.channels[f"{name}.4.{parameter}", 0] = torch.cat([here, len(new) + here])
            known.append(known_before + here)
            known_before += len(new)

    def name(self, name: str) -> str:
        """Return the name of a tensor in the larger codec.

        The layers of the transforms are numbered, and new layers between them change their numbers.
        """
        part, _, rest = name.partition(".network.")
        if part not in self.roles or not rest:
            return name
        number, _, rest = rest.partition(".")
        old, new = self.roles[part]
        return f"{part}.network.{new.index(old[int(number)])}.{rest}"

    def index(self, name: str, tensor: Tensor) -> tuple[Tensor, ...]:
        """Return the indices of a source tensor's entries in the larger tensor, one for each dimension.

        The indices can be broadcast together.
        """
        places = [self.channels.get((name, n), torch.arange(length)) for n, length in enumerate(tensor.shape)]
        return tuple(p.reshape([-1 if n == m else 1 for m in range(tensor.dim())]) for n, p in enumerate(places))


def _old_channels(few: int, many: int) -> Tensor:
    """Return the indices of the old channels of y among the new: the start of each quarter, in their order."""
    old, new = torch.arange(few), torch.arange(many)
    quarters = [(new[new * 4 // many == quarter], int((old * 4 // few == quarter).sum())) for quarter in range(4)]
    return torch.cat([channels[:count] for channels, count in quarters])


def _numbers(value: object) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (int(str(value)),)


def _attention(old: ModelConfig, new: ModelConfig, transform: Transform) -> Iterator[tuple[int, int, int, str, str]]:
    """Yield stride, old width, new width, old kind and new kind for each place of attention."""
    kinds = (old.attention.kinds(transform), new.attention.kinds(transform))
    yield from zip(STRIDES[1:], old.widths[1:], new.widths[1:], *kinds, strict=True)
