"""What can be set: frozen models with one sentence a field, read from YAML and `key=value` overrides."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from attncodec.budget import Budget
from attncodec.errors import ConfigError

QUALITY_STEPS = 64  # between two levels
# Keys of before, for those who still write them.
RENAMED = {
    "model.levels": "model.rd_lambdas",
    **dict.fromkeys(("train.constant", "train.final_share", "data.final_crop"), "train.phases"),
}
SHARES_TOLERANCE = 1e-6


def _budget_text(text: str) -> str:
    Budget.parse(text)
    return text


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Blocks = tuple[Annotated[int, Field(ge=0, le=64)], ...]


AttentionKind = Literal["gated", "dot", "additive", "kernel", "none"]
WINDOWED = ("dot", "additive", "kernel")


class AttentionConfig(Section):
    kind: AttentionKind = Field(default="gated", description="Attention in the analysis and synthesis transforms.")
    strides: tuple[Literal[8, 16], ...] = Field(
        default=(16,), description="Where it stands: at stride 8 it costs twice what it does at 16."
    )
    analysis: tuple[AttentionKind, AttentionKind] | None = Field(
        default=None, description="Kinds at strides 8 and 16 of the analysis, in place of `kind`."
    )
    synthesis: tuple[AttentionKind, AttentionKind] | None = Field(
        default=None, description="Kinds at strides 8 and 16 of the synthesis, in place of `kind`."
    )
    heads: int = Field(default=4, ge=1, le=64, description="Heads of dot, additive and kernel.")
    window: int = Field(default=8, ge=2, le=32, description="Side of their windows, in elements of the map.")
    hidden: int = Field(default=16, ge=1, le=256, description="Hidden width of the additive score, in each head.")

    def kinds(self, transform: Literal["analysis", "synthesis"]) -> tuple[AttentionKind, AttentionKind]:
        """At strides 8 and 16."""
        chosen = self.analysis if transform == "analysis" else self.synthesis
        return chosen or (self._at(8), self._at(16))

    def _at(self, stride: int) -> AttentionKind:
        return self.kind if stride in self.strides else "none"


class ModelConfig(Section):
    """Everything that decides the shape of the networks."""

    latent_channels: int = Field(default=256, ge=1, le=768, description="Channels of the latent y, at stride 16.")
    hyper_channels: int = Field(
        default=128, ge=1, le=1024, description="Channels of the side information, at stride 64."
    )
    widths: tuple[Annotated[int, Field(ge=0, le=4096)], ...] = Field(
        default=(64, 128, 192),
        min_length=3,
        max_length=3,
        description="Width at strides 4, 8 and 16; 0 at stride 4 starts the networks at stride 8.",
    )
    analysis_blocks: Blocks = Field(
        default=(1, 2, 3), min_length=3, max_length=3, description="Residual blocks of the analysis, at each stride."
    )
    synthesis_blocks: Blocks = Field(
        default=(1, 4, 4), min_length=3, max_length=3, description="Residual blocks of the synthesis, at each stride."
    )
    attention: AttentionConfig = AttentionConfig()

    @model_validator(mode="after")
    def _widths_fit(self) -> "ModelConfig":
        if min(self.widths[1:]) < 2 or (self.widths[0] == 0 and self.analysis_blocks[0] + self.synthesis_blocks[0]):
            raise ValueError("widths at strides 8 and 16 start at 2, and a width of 0 at stride 4 has no blocks")
        return self

    @model_validator(mode="after")
    def _heads_divide_widths(self) -> "ModelConfig":
        kinds = zip(self.attention.kinds("analysis"), self.attention.kinds("synthesis"), strict=True)
        for width, here in zip(self.widths[1:], kinds, strict=True):
            if width % self.attention.heads and set(here) & set(WINDOWED):
                raise ValueError(f"a width of {width} does not divide into {self.attention.heads} heads of attention")
        return self

    context: Literal["quadtree", "none"] = Field(
        default="quadtree", description="Latents that are known when others are coded: in four steps, or one."
    )
    context_width: int = Field(default=256, ge=1, le=4096, description="Width of the hyper and context networks.")
    rd_lambdas: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800),
        min_length=1,
        max_length=64,
        description="Lambda of each quality level: the loss is bpp + lambda * 255^2 * MSE. One makes a one-rate model.",
    )


Crop = Annotated[int, Field(ge=64, le=4096, multiple_of=64)]
Factor = Annotated[float, Field(ge=0, le=10)]


class DataConfig(Section):
    train: str = Field(default="", description="Folder of pictures to train on, searched to the bottom.")
    crop: Crop = Field(default=256, description="Side of the training crops, in pixels, where train.phases says none.")
    held_out: float = Field(
        default=0.05, gt=0, lt=1, description="Share of the pictures that is kept for validation and never trained on."
    )
    held_out_max: int = Field(default=12, ge=1, description="At most so many pictures are held out.")
    cache: Literal["auto", "ram", "device", "none"] = Field(
        default="auto",
        description="Decoded pictures: auto keeps as many as fit memory_share, on the GPU as far as they fit there, "
        "ram all, device all on the GPU, none decodes for every crop. What is not kept is decoded ahead by threads; "
        "crops are the same.",
    )
    memory_share: float = Field(default=0.5, gt=0, lt=1, description="Of the memory that is free at the start.")


Part = Literal["analysis", "gains", "hyper_analysis", "z_prior", "context", "synthesis"]
PARTS: tuple[Part, ...] = get_args(Part)
ENCODER_PARTS: tuple[Part, ...] = ("analysis", "gains", "hyper_analysis")


LatentRounding = Literal["nearest", "encoder"]


class Phase(Section):
    """A part of a training run."""

    share: float = Field(gt=0, le=1, description="Share of the budget; those of all phases add up to 1.")
    crop: Crop | None = Field(
        default=None, description="Side of the crops, data.crop if not given; of larger ones a batch has fewer."
    )
    lr: tuple[Factor, Factor] = Field(
        default=(1.0, 0.0), description="Learning rate at its begin and end, in train.lr; between them a cosine."
    )
    frozen: tuple[Part, ...] = Field(default=(), description="Parts that do not learn; they stay as their average is.")
    rounding: LatentRounding = Field(
        default="nearest",
        description="Latents are rounded to the nearest, with noise for the rate, or as the encoder rounds them.",
    )

    @model_validator(mode="after")
    def _something_learns(self) -> "Phase":
        if set(PARTS) == set(self.frozen):
            raise ValueError("all parts are frozen: nothing would learn")
        return self

    @model_validator(mode="after")
    def _the_encoder_is_frozen(self) -> "Phase":
        if self.rounding == "encoder" and set(ENCODER_PARTS) - set(self.frozen):
            parts = ", ".join(ENCODER_PARTS)
            raise ValueError(f"rounded as the encoder rounds, the rate has no gradient for {parts}: freeze them")
        return self


class TrainConfig(Section):
    budget: Annotated[str, BeforeValidator(str), AfterValidator(_budget_text)] = Field(
        default="2h", description="Steps (5000) or time (90s, 20m, 2h), which train.phases share."
    )
    init: str = Field(
        default="",
        description="Model file or checkpoint whose weights training starts from; `shipped` is the shipped model.",
    )
    batch: int = Field(default=8, ge=1, description="Crops in a step.")
    lr: float = Field(default=1e-3, gt=0, description="Highest learning rate, after the warm-up.")
    warmup: int = Field(default=50, ge=0, description="Steps in which the learning rate rises from zero.")
    phases: tuple[Phase, ...] = Field(
        default=(Phase(share=1.0),), min_length=1, description="Parts of the budget, one after another."
    )
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    ema: float = Field(default=0.999, ge=0, lt=1, description="Decay of the averaged weights, which are sealed.")
    ms_ssim_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of MS-SSIM in the distortion: 0 is MSE alone, 1 MS-SSIM alone; levels stay as for MSE.",
    )
    validations: int = Field(
        default=10, ge=1, description="At most so many validations over the whole budget, evenly spaced."
    )
    validation_share: float = Field(
        default=0.03, gt=0, le=1, description="Largest share of training that validations take; 1 is no limit."
    )
    precision: Literal["auto", "float32"] = Field(
        default="auto", description="auto: convolutions in bfloat16 where the hardware multiplies it itself."
    )
    compile: bool | Literal["auto"] = Field(
        default="auto", description="torch.compile of the networks; auto: on a GPU. The first steps then take a minute."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of everything that is random.")

    @model_validator(mode="after")
    def _shares_are_the_whole_budget(self) -> "TrainConfig":
        if abs(sum(phase.share for phase in self.phases) - 1) > SHARES_TOLERANCE:
            raise ValueError(f"the shares of its phases add up to {sum(phase.share for phase in self.phases):g}, not 1")
        return self


class Config(Section):
    """The whole configuration of a training run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _crops_fit_ms_ssim(self) -> "Config":
        if self.train.ms_ssim_share and min(self.crop_in(phase) for phase in self.train.phases) < 192:
            raise ValueError("MS-SSIM has five scales: with train.ms_ssim_share, crops start at 192 pixels")
        return self

    def crop_in(self, phase: Phase) -> int:
        """Side of the crops in a phase, in pixels."""
        return phase.crop or self.data.crop


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply overrides such as `train.budget=20m` on top.

    Raises ConfigError that names the key: unknown (with the nearest valid one), not a valid value, or a broken file.
    """
    if not path.is_file():
        raise ConfigError(f"there is no configuration file {path}", "shipped ones lie in configs/")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no sections", "it begins with model:, data: or train:")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is not key=value", "for example train.budget=20m")
        key = key.strip()
        try:
            value = text if _keys(Config).get(key) is str else yaml.safe_load(text)  # a folder may be called 2024
        except yaml.YAMLError:
            value = text
        _set(tree, key, value)
    return build_config(tree, f"{path} or its overrides")


def build_config(tree: dict[str, Any], source: str) -> Config:
    """Check a nested dict. Raises ConfigError that names `source`, the key and the reason."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or source
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, list(_keys(Config)), n=1, cutoff=0)
            raise ConfigError(f"unknown key {key} in {source}", f"did you mean {RENAMED.get(key, near[0])}?") from None
        reason = first["msg"].removeprefix("Value error, ")
        hint = f"it was {first['input']!r:.100}" if first["loc"] else ""
        raise ConfigError(f"{key}: {reason}", hint) from None


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section")
    tree[name] = value


def _keys(section: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Dotted keys -> their types."""
    keys: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            keys.update(_keys(field.annotation, f"{prefix}{name}."))
        else:
            keys[prefix + name] = field.annotation
    return keys


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one dict of dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat.update(flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`. Raises ConfigError where a key is both a value and a section."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        _set(tree, key, value)
    return tree


def dump_yaml(config: BaseModel) -> str:
    """The resolved configuration as YAML that `load_config` reads back to an equal one."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None)
    return text
