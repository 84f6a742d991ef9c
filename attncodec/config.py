"""All settings are fields of frozen models, described in a sentence each (config_file.py reads and writes them)."""

import os
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)

from attncodec.budget import Budget

SHARES_TOLERANCE = 1e-6


def _budget_text(text: str) -> str:
    Budget.parse(text)
    return text


class Section(BaseModel):
    """A section of the configuration, which is frozen and has no keys other than its fields.

    It is strict: `true` is no number, and `"8"` is no number either.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_become_tuples(cls, values: Any) -> Any:
        """Accept lists, which YAML and JSON have in place of tuples."""
        if not isinstance(values, dict):
            return values
        return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


Blocks = tuple[Annotated[int, Field(ge=0, le=64)], ...]


def _option(value: object) -> object:
    values = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(single, bool | int | float | str) for single in values):
        raise ValueError("an option is a number, a text, true, false, or a list of these")
    return tuple(value) if isinstance(value, list) else value


# The part that an option belongs to checks it further.
OptionValue = Annotated[bool | int | float | str | tuple[bool | int | float | str, ...], PlainValidator(_option)]
UserPath = Annotated[str, AfterValidator(os.path.expanduser)]  # `~` is the home folder; variables stay as they are.


class AttentionConfig(Section):
    """Settings of the attention in the transforms."""

    kind: str = Field(default="gated", description="Attention at all of `strides`: a name of networks/attention.")
    strides: tuple[Literal[8, 16], ...] = Field(
        default=(16,), description="Strides that have attention; at stride 8 it costs twice as much as at 16."
    )
    analysis: tuple[str, str] | None = Field(
        default=None, description="Kinds at strides 8 and 16 of the analysis, instead of `kind` and `strides`."
    )
    synthesis: tuple[str, str] | None = Field(
        default=None, description="Kinds at strides 8 and 16 of the synthesis, instead of `kind` and `strides`."
    )
    heads: int = Field(default=4, ge=1, le=64, description="Number of heads of dot, additive and kernel attention.")
    window: int = Field(
        default=8, ge=2, le=32, description="Side of the windows of dot, additive and kernel, in elements of the map."
    )
    hidden: int = Field(default=16, ge=1, le=256, description="Hidden width of the additive score, in each head.")
    options: dict[str, dict[str, OptionValue]] = Field(
        default={}, description="Further options of a kind, as model.attention.options.KIND.OPTION."
    )

    def kinds(self, transform: Literal["analysis", "synthesis"]) -> tuple[str, str]:
        """Return the kinds of attention at strides 8 and 16."""
        chosen = self.analysis if transform == "analysis" else self.synthesis
        return chosen or (self._at(8), self._at(16))

    def _at(self, stride: int) -> str:
        return self.kind if stride in self.strides else "none"


class ModelConfig(Section):
    """All settings that determine the shape of the networks."""

    latent_channels: int = Field(default=256, ge=1, le=768, description="Channels of the latent y, at stride 16.")
    hyper_channels: int = Field(default=128, ge=1, le=1024, description="Channels of the latent z, at stride 64.")
    widths: tuple[Annotated[int, Field(ge=0, le=4096)], ...] = Field(
        default=(64, 128, 192),
        min_length=3,
        max_length=3,
        description="Channels of the transforms at strides 4, 8 and 16; with 0 at stride 4, they start at stride 8.",
    )
    analysis_blocks: Blocks = Field(
        default=(1, 2, 3), min_length=3, max_length=3, description="Residual blocks of the analysis, at each stride."
    )
    synthesis_blocks: Blocks = Field(
        default=(1, 4, 4), min_length=3, max_length=3, description="Residual blocks of the synthesis, at each stride."
    )
    attention: AttentionConfig = AttentionConfig()

    context: str = Field(
        default="quadtree",
        description="Order in which latents are coded, each step with the ones before as context: a name of "
        "networks/coding_order.py.",
    )
    context_width: int = Field(default=256, ge=1, le=4096, description="Channels of the context networks.")
    rd_lambdas: tuple[Annotated[float, Field(ge=1e-6, le=100)], ...] = Field(
        default=(0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800),
        min_length=1,
        max_length=64,
        description="Lambda of each quality level: the loss is bpp + lambda * 255^2 * MSE. "
        "With one lambda, the model has one rate.",
    )

    @field_validator("rd_lambdas")
    @classmethod
    def _lambdas_rise(cls, rd_lambdas: tuple[float, ...]) -> tuple[float, ...]:
        if any(after <= before for before, after in pairwise(rd_lambdas)):
            raise ValueError("each lambda must be larger than the one before")
        return rd_lambdas


Crop = Annotated[int, Field(ge=64, le=4096, multiple_of=64)]
Factor = Annotated[float, Field(ge=0, le=10)]


class DataConfig(Section):
    """Settings of the pictures, and of how crops are cut from them."""

    train: UserPath = Field(default="", description="Folder of pictures to train on, searched recursively.")
    crop: Crop = Field(default=256, description="Side of the training crops in pixels, a multiple of 64.")
    held_out: float = Field(
        default=0.05, gt=0, lt=1, description="Share of the pictures that are kept for validation and never trained on."
    )
    held_out_max: int = Field(default=12, ge=1, le=10_000, description="Maximum number of pictures that are held out.")
    cache: Literal["auto", "ram", "device", "none"] = Field(
        default="auto",
        description="Where decoded pictures are kept: auto keeps as many as fit into memory_share, on the GPU as far "
        "as they fit there; ram keeps all; device keeps as many on the GPU as fit into 80 % of its free memory; none "
        "decodes a picture for every crop. Threads decode the others ahead. Crops are the same in all cases.",
    )
    memory_share: float = Field(
        default=0.5, gt=0, lt=1, description="Share of the memory free at the start that decoded pictures may use."
    )


Part = Literal["analysis", "gains", "hyper_analysis", "z_prior", "context", "synthesis"]
PARTS: tuple[Part, ...] = get_args(Part)
ENCODER_PARTS: tuple[Part, ...] = ("analysis", "gains", "hyper_analysis")


LatentRounding = Literal["nearest", "encoder"]


class Phase(Section):
    """A part of a training run, with its own settings."""

    share: float = Field(gt=0, le=1, description="Share of the budget; the shares of all phases add up to 1.")
    crop: Crop | None = Field(
        default=None, description="Side of the crops, data.crop if left out; larger crops make a smaller batch."
    )
    lr: tuple[Factor, Factor] = Field(
        default=(1.0, 0.0),
        description="Learning rate at its start and end, as multiples of train.lr, with a cosine between them.",
    )
    frozen: tuple[Part, ...] = Field(
        default=(), description="Parts of the codec that do not learn; all weights become their averages first."
    )
    rounding: LatentRounding = Field(
        default="nearest",
        description="Rounding of latents: nearest, with noise for the rate, or encoder, as the encoder rounds them.",
    )

    @model_validator(mode="after")
    def _something_learns(self) -> "Phase":
        if set(PARTS) == set(self.frozen):
            raise ValueError("all parts are frozen, so nothing would learn")
        return self

    @model_validator(mode="after")
    def _the_encoder_is_frozen(self) -> "Phase":
        if self.rounding == "encoder" and set(ENCODER_PARTS) - set(self.frozen):
            parts = ", ".join(ENCODER_PARTS)
            raise ValueError(f"with encoder rounding, the rate has no gradient for {parts}: freeze them")
        return self


class TrainConfig(Section):
    """Settings of how the codec is trained."""

    budget: Annotated[str, BeforeValidator(str), AfterValidator(_budget_text)] = Field(
        default="2h", description="Number of steps (5000) or time (90s, 20m, 2h), divided among train.phases."
    )
    init: UserPath = Field(
        default="",
        description="Model file, checkpoint or run folder to start from; `shipped` is the shipped model.",
    )
    batch: int = Field(default=8, ge=1, le=4096, description="Number of crops in a step.")
    initialisation: str = Field(
        default="dct", description="How weights start without train.init: a name of networks/initialisation.py."
    )
    optimiser: str = Field(default="muon", description="What moves the weights: a name of training/optimisers.")
    optimiser_options: dict[str, OptionValue] = Field(default={}, description="Options of the optimiser.")
    lr: float = Field(default=1e-3, gt=0, le=10, description="Highest learning rate, after the warm-up.")
    warmup: int = Field(
        default=50, ge=0, le=10**6, description="Steps at the start of a run in which the learning rate rises."
    )
    phases: tuple[Phase, ...] = Field(
        default=(Phase(share=1.0),), min_length=1, max_length=64, description="Parts of the budget, one after another."
    )
    clip: float = Field(default=1.0, gt=0, le=1e6, description="Largest norm of the gradient.")
    ema: float = Field(default=0.999, ge=0, lt=1, description="Decay of the averaged weights (EMA), which are sealed.")
    ms_ssim_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of MS-SSIM in the distortion: 0 is only MSE, 1 only MS-SSIM; lambdas stay those for MSE.",
    )
    validations: int = Field(
        default=10, ge=1, le=10_000, description="Maximum number of validations over the whole budget, evenly spaced."
    )
    validation_share: float = Field(
        default=0.03, gt=0, le=1, description="Maximum share of training that validations may take; 1 means no limit."
    )
    precision: Literal["auto", "float32"] = Field(
        default="auto", description="auto runs convolutions in bfloat16 if the hardware multiplies it natively."
    )
    compile: Literal[True, False, "auto"] = Field(
        default="auto",
        description="Compile the networks with torch.compile; auto: only on a GPU. The first steps then take a minute.",
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
    def _widths_fit(self) -> "Config":
        model = self.model
        blocks = model.analysis_blocks[0] + model.synthesis_blocks[0]
        # With train.init, fields that are not given are those of its file, and are checked when they are known.
        if not self.train.init and (min(model.widths[1:]) < 2 or (model.widths[0] == 0 and blocks)):
            raise ValueError(
                "model.widths: at strides 8 and 16 they must be at least 2, and 0 at stride 4 allows no blocks there"
            )
        return self

    @model_validator(mode="after")
    def _crops_fit_ms_ssim(self) -> "Config":
        if self.train.ms_ssim_share and min(self.crop_in(phase) for phase in self.train.phases) < 192:
            raise ValueError("MS-SSIM has five scales: with train.ms_ssim_share, crops must have at least 192 pixels")
        return self

    def crop_in(self, phase: Phase) -> int:
        """Return the side of the crops in a phase, in pixels."""
        return phase.crop or self.data.crop
