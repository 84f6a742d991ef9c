"""The rows of the table in test_refusals.py for errors of sealing, encoding and decoding, and what is just accepted."""

from collections.abc import Callable
from dataclasses import replace

from conftest import photo
from refusals import (
    DAMAGED,
    OTHER_ID,
    RGB,
    Row,
    World,
    convolve,
    quantise,
    read_beyond_the_limit,
    read_symbols,
    tables_with,
)

from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.model_file import CENTRES, ERROR_WEIGHT, OFFSETS, read_model
from attncodec.container import ALPHA, RESOLUTION, check_size
from attncodec.pictures import Picture, encode_picture, encode_rgb

ALPHA_IS = DAMAGED.format("its alpha is {} of ({}), not of (30, 20)")
GAINS = "the model is damaged: its gains are out of range"
TABLE_SIZE = "the model is damaged: a probability table has an invalid size"
TABLE_SUM = "the model is damaged: the sizes of its probability tables do not add up"
TABLE = "the model is damaged: a probability table has an invalid weight, sum or start"
NO_QUALITY = "this model has no quality {}"
NOT_SEALED = "the model cannot be sealed: {}"
NOT_FINITE = NOT_SEALED.format("a gain or a bias of its integer networks is not finite")
WEIGHT = "a weight of its integer networks is {}"
FULL = (1 << 24) - 1
EDGES = 122880, -122880
MEASURED = (OFFSETS, 8.0), (OFFSETS, -8.0), (CENTRES, 8.0), (ERROR_WEIGHT, 1.1e-6), (ERROR_WEIGHT, 1e6)

CODING: list[Row] = [
    (
        "the file was written with model {other}, but this model is {id}",
        "use --model to name the model that wrote it",
        lambda world: world.decode(decoder_id=OTHER_ID),
    ),
    (NO_QUALITY.format("0.984375"), "", lambda world: world.decode(quality_index=63)),
    (NO_QUALITY.format("3.01562"), "", lambda world: world.decode(quality_index=193)),
    (
        "the checksum of the decoded latents does not match: the file or the model is damaged",
        "",
        lambda world: world.decode_with_other_crc(),
    ),
    (
        "the file ends where nothing can be seen yet",
        "",
        lambda world: world.decode(stripes=(replace(world.container.stripes[0], latents=bytes(8), cut=True),)),
    ),
    (
        NO_QUALITY.format("3.02"),
        "choose a quality from 1 to 3, in steps of 1/64",
        lambda world: world.encode(Target(quality=3.02)),
    ),
    (NO_QUALITY.format("2"), "it has only quality 1", lambda world: world.one_level().quality_index(2)),
    (
        "a target in bpp must be a finite number above 0, not inf",
        "such as 0.5",
        lambda world: Target(bpp=float("inf")),
    ),
    (
        "a quality must be a finite number above 0, not 'x'",
        "such as 4",
        lambda world: Target("x"),  # type: ignore[arg-type]
    ),
    (
        "a quality and a target in dB cannot be combined",
        "give only one of them",
        lambda world: Target(quality=4, psnr_db=34),
    ),
    (
        "20 bytes are too few for this picture",
        "its smallest file has {smallest} bytes",
        lambda world: world.encode(Target(bytes=20)),
    ),
    (
        "3 bytes are too few for this picture",
        "its smallest file has {smallest} bytes",
        lambda world: world.encode(Target(bpp=0.05)),
    ),
    (
        "90.5 dB cannot be reached for this picture",
        "its best file has {best} dB",
        lambda world: world.encode(Target(psnr_db=90.5)),
    ),
    (
        "the model is damaged: its analysis gives values that are not finite",
        "",
        lambda world: world.encode_with_broken_analysis(),
    ),
    *(
        (f"there is no effort {effort}", "choose one from 0 to 3", lambda world, e=effort: world.encode(Target(), e))
        for effort in (-1, 4)
    ),
    (DAMAGED.format("its resolution is not two numbers"), "", lambda world: world.with_extras(RESOLUTION, bytes(7))),
    (
        ALPHA_IS.format("RGB", "30, 20"),
        "",
        lambda world: world.with_extras(ALPHA, encode_rgb(photo(20, 30), ".png")),
    ),
    (
        ALPHA_IS.format("RGB", "31, 20"),
        "",
        lambda world: world.with_extras(ALPHA, encode_rgb(photo(20, 31), ".webp")),
    ),
    (DAMAGED.format("its alpha is neither PNG nor WebP"), "", lambda world: world.with_extras(ALPHA, b"nonsense")),
    (
        DAMAGED.format("its alpha cannot be decoded: …"),
        "",
        lambda world: world.with_extras(ALPHA, encode_picture(Picture(photo(20, 30), grey=True), ".png")[:60]),
    ),
    *((GAINS, "", lambda world, n=name: world.integers(n, -122881)) for name in ("log2_gain", "log2_gain_z")),
    *((GAINS, "", lambda world, n=name: world.integers(n, 122881)) for name in ("log2_gain", "log2_gain_z")),
    *((GAINS, "", lambda world, v=value: world.integers("exp2", v)) for value in ((1 << 14) - 1, (1 << 15) + 1)),
    *(
        (NOT_FINITE, "", lambda world, n=name: world.seal_with(n, float("nan")))
        for name in ("log2_gain", "log2_gain_z", "prior.quality_bias")
    ),
    (
        NOT_SEALED.format("synthesis.head.0.weight is not finite in 16 bits"),
        "",
        lambda world: world.seal_with("synthesis.head.0.weight", 1e6),
    ),
    *(
        (NOT_SEALED.format(WEIGHT.format("not finite")), "", lambda world, v=values: quantise(*v))
        for values in ((float("nan"), 0.0), (0.0, float("inf")))
    ),
    *(
        (NOT_SEALED.format(WEIGHT.format("out of range")), "", lambda world, v=values: quantise(*v))
        for values in ((32640.0, 0.0), (0.0, 2048.0), (0.0, -2048.0))
    ),
    *(
        ("the model is damaged: " + WEIGHT.format("out of range"), "", lambda world, v=values: convolve(*v))
        for values in ((32640, 1, 0), (-32640, 1, 0), (1, 1, 31))
    ),
    (
        "the model's integer networks could overflow: the sum of their weights is too large",
        "",
        lambda world: convolve(32639, 4227525 // 3, 0, 3),
    ),
    (TABLE_SIZE, "", lambda world: tables_with([], [])),
    (TABLE_SIZE, "", lambda world: tables_with([1, FULL], [2], 0, 0)),
    (TABLE_SIZE, "", lambda world: tables_with([1 << 24], [1], 0)),
    (TABLE_SIZE, "", lambda world: tables_with([2048] * 8192 + [0], [8193], 0)),
    (TABLE_SUM, "", lambda world: tables_with([1, FULL, 1], [2], 0)),
    *((TABLE, "", lambda world, w=weights: tables_with(w, [2], 0)) for weights in ([0, FULL + 1], [1, FULL - 1])),
    *((TABLE, "", lambda world, n=low: tables_with([1, FULL], [2], n)) for low in (32768, -32768)),
    (DAMAGED.format("the length of its latents is not a multiple of 4 bytes"), "", lambda world: read_symbols(b"123")),
    (DAMAGED.format("its entropy-coded data is invalid"), "", lambda world: read_symbols(b"\xff" * 8)),
    (DAMAGED.format("a symbol is out of range"), "", lambda world: read_beyond_the_limit()),
    (DAMAGED.format("entropy-coded data is left over"), "", lambda world: read_symbols(bytes(400))),
]

# These are the numbers next to those that rows above refuse.
WITHIN: list[Callable[[World], object]] = [
    lambda world: check_size(3124992, 64),
    lambda world: check_size(1, 1),
    lambda world: convolve(32639, 1, 30),
    lambda world: convolve(-32639, 4227524),
    lambda world: quantise(32639.0, 2047.999),
    lambda world: quantise(-32639.0, -2047.999),
    lambda world: tables_with([2048] * 8192, [8192], 32767),
    lambda world: tables_with([1, FULL], [2], -32767),
    lambda world: PictureEncoder(world.sealed, RGB, 3),
    *(lambda world, n=name, v=value: world.integers(n, v) for name in ("log2_gain", "log2_gain_z") for value in EDGES),
    *(lambda world, v=value: world.integers("exp2", v) for value in (1 << 14, 1 << 15)),
    *(lambda world, n=name, v=value: read_model(world.measured(n, v)) for name, value in MEASURED),
]
