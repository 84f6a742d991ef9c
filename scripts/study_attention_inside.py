"""Measure what each kind of attention is worth if it starts untrained inside the shipped model, at equal time.

    python scripts/study_attention_inside.py PICTURES --minutes 9 [--only NAMES]

The shipped model loses its attention and gets that of each kind, which begins as the identity; then the whole model is
trained further. Loss and files are of the pictures that the runs held out; the models are sealed with measured tables.
Nothing should run beside it. Results that exist are not made again.
"""

from pathlib import Path
from typing import get_args

from variants import Variant, compare

from attncodec.config import AttentionConfig, AttentionKind, Config
from attncodec.networks.hyperprior import HyperpriorCodec, build_codec
from attncodec.training import setup
from attncodec.training.growth import Places, grow
from attncodec.training.init_from import Initial, load_initial, networks_of, path_of

START = ("train.init=shipped", "train.phases=[{share: 1}]", "train.lr=4e-4", "data.crop=192", "train.batch=16")


def without_attention(source: HyperpriorCodec) -> HyperpriorCodec:
    """Return a codec with the same weights, and with nothing where attention was."""
    bare = build_codec(source.config.model_copy(update={"attention": AttentionConfig(kind="none")}))
    theirs, name_in = source.state_dict(), Places(bare, source).name
    bare.load_state_dict({name: theirs[name_in(name)] for name in bare.state_dict()})
    return bare


def patch() -> None:
    def inside(config: Config) -> Initial:
        carried = config.model_copy(update={"model": networks_of(path_of(config))})
        initial = load_initial(carried)
        return Initial(grow(without_attention(initial.codec), config.model), initial.inherited, "attention")

    setup.load_initial = inside


VARIANTS = {
    kind: Variant((*START, f"model.attention={{kind: {kind}, strides: [16]}}"), patch)
    for kind in ("none", *(kind for kind in get_args(AttentionKind) if kind != "none"))
}

if __name__ == "__main__":
    compare(__doc__, __file__, VARIANTS, Path("results/attention_inside"), Path("configs/shipped.yaml"))
