"""Every error that reading or writing a file can end with has the message and the hint that a user needs.

The table has a row for each error, with an input that causes it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from refusals import BAD_CRC, BAD_CRC_0, DAMAGED, OTHER_ID, Row, World
from refusals_of_coding import CODING, WITHIN
from test_container import ONE, SIZE, section, version_0, version_1

from attncodec.coding.find_model import MODELS_VARIABLE, RETIRED, choose_model, find_models
from attncodec.coding.model_file import CENTRES, ERROR_WEIGHT, OFFSETS, OLD_HINT, read_header, read_model
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.tensor_file import read_meta, read_tensors, to_bytes
from attncodec.container import check_size, unpack
from attncodec.errors import AttncodecError
from attncodec.networks.hyperprior import HyperpriorCodec

UPDATE = "update attncodec"
NO_FILE = "check the name; attncodec train makes DIR/model.safetensors"
BOUNDS = "each side must be at least 1"
LIMIT = "the limit is 200000000, with sides rounded up to multiples of 64; --max-pixels sets it"
BROKEN_HEADER = "the header is damaged: its checksum does not match"
NO_NUMBER = "the file is damaged: there is no valid number before byte {}"
NOT_WORDS = "the file is damaged: the size of its latents is not a multiple of 4 bytes"
FLAGS = "flags {} at byte 5, but this build knows only 0x01"
LATENTS = "it has 52 bytes of latents, but its header says"
SIZES = SIZE[:3]


def of_bytes(message: str, hint: str, data: bytes) -> Row:
    return message, hint, lambda world: unpack(data)


CONTAINER: list[Row] = [
    of_bytes("the file is empty", "", b""),
    of_bytes("not an .atc file", "attncodec compress makes one from a picture", b"ATXC"),
    of_bytes("the file is truncated after 4 bytes", "", b"ATNC"),
    of_bytes("the file is truncated after 13 bytes", "", version_1(*SIZE)[:13]),
    of_bytes("the file is truncated after 39 bytes", "", version_0()[:39]),
    of_bytes("version 2 at byte 4, but this build reads versions 0 to 1", UPDATE, b"ATNC\x02"),
    of_bytes(BROKEN_HEADER, "", BAD_CRC),
    of_bytes(BROKEN_HEADER, "", BAD_CRC_0),
    of_bytes(FLAGS.format("0x02"), UPDATE, version_1(*SIZE, flags=2)),
    of_bytes(FLAGS.format("0x80"), UPDATE, version_0(flags=128)),
    of_bytes("the header is damaged: its stripes cannot be 0 units high", "", version_1(*SIZES, b"\x00")),
    of_bytes(NO_NUMBER.format(20), "", version_1(b"\x40", b"\xff\xff\xff\xff\xff\x01")),
    of_bytes(NO_NUMBER.format(17), "", version_1(b"\x40", b"\x88\x00")),
    of_bytes(NOT_WORDS, "", version_1(*SIZE, sections=section(1, b""))),
    of_bytes(NOT_WORDS, "", version_0(b"yyyyy")),
    of_bytes("the file is truncated: it has 0 stripes of 1", "", version_1(*SIZE)),
    of_bytes(DAMAGED.format("it has 2 stripes of 1"), "", version_1(*SIZE, sections=ONE * 2)),
    of_bytes("the file is truncated, or bytes follow its end", "", version_1(*SIZE, sections=ONE + b"\n")),
    of_bytes(
        DAMAGED.format("the checksum of its section of type 3 does not match"),
        "",
        version_1(*SIZE, sections=ONE + section(3, b"a", 0)),
    ),
    of_bytes(
        DAMAGED.format("it has two sections of type 128"), "", version_1(*SIZE, sections=ONE + section(128, b"a") * 2)
    ),
    of_bytes(
        "the file has a section of type 127, which this build does not know",
        UPDATE,
        version_1(*SIZE, sections=ONE + section(127, b"a")),
    ),
    of_bytes(f"the file is truncated: {LATENTS} 53", "", version_0(size=53)),
    of_bytes(f"the file is too long: {LATENTS} 51", "", version_0(size=51)),
    of_bytes(DAMAGED.format("the checksum of its latents does not match"), "", version_0()[:-1] + b"x"),
    ("0 x 7 pixels are out of bounds", BOUNDS, lambda world: check_size(0, 7)),
    ("7 x 0 pixels are out of bounds", BOUNDS, lambda world: check_size(7, 0)),
    ("3125001 x 64 pixels are too many", LIMIT, lambda world: check_size(3125001, 64)),
]

NOT_READABLE = "{{path}} is damaged, or not a safetensors file: {}"
LATER = "{{path}} is damaged, or from a later build: {}"
OF_MODEL = "{{path}} is damaged: {}"
AGAIN = "copy it again, or seal it again"
TWO = {"a": ([2], "F32")}
LONG = "x" * 300  # no file can have this name


def with_tensors(**tensors: list[float]) -> Callable[[World], object]:
    """Read a file of these tensors, of which `a` should be there with two numbers."""
    data = to_bytes({name: torch.tensor(values) for name, values in tensors.items()}, {})
    return lambda world: read_tensors(world.file(data), dict(TWO))


FILES: list[Row] = [
    ("there is no file {path}", NO_FILE, lambda world: read_meta(world.no_file(), "any")),
    ("there is no file {folder}", NO_FILE, lambda world: read_meta(world.folder, "any")),
    (NOT_READABLE.format("…"), "", lambda world: read_header(world.file(b"no model"))),
    (NOT_READABLE.format("…"), "", lambda world: read_meta(world.with_number(b"1,,2"), "any")),
    (
        NOT_READABLE.format("NaN is not a finite number"),
        "",
        lambda world: read_meta(world.with_number(b"NaN"), "any"),
    ),
    (
        NOT_READABLE.format("1.0e999 is not a finite number"),
        "",
        lambda world: read_meta(world.with_number(b"1.0e999"), "any"),
    ),
    (
        "the format of {path} is attncodec-model-3, not attncodec-model-4",
        OLD_HINT,
        lambda world: read_header(world.model(format="attncodec-model-3")),
    ),
    (
        "the format of {path} is unknown, not any",
        "",
        lambda world: read_meta(world.file(to_bytes({}, {})), "any", {"other": "a hint"}),
    ),
    (
        "the format of {path} is damaged, not any",
        "",
        lambda world: read_meta(world.file(to_bytes({}, cast(dict[str, Any], ["a list"]))), "any"),
    ),
    (OF_MODEL.format("…"), "", lambda world: read_tensors(world.file(b"no model"))),
    ("{path}: tensor a is missing", "", with_tensors()),
    ("{path}: tensor b is unknown", "", with_tensors(a=[1.0, 2.0], b=[1.0])),
    ("{path}: tensor a is F32 [3], not F32 [2]", "", with_tensors(a=[1.0, 2.0, 3.0])),
    ("{path}: tensor a is I64 [2], not F32 [2]", "", with_tensors(a=[1, 2])),
    ("{path}: tensor a has values that are not finite", "", with_tensors(a=[1.0, float("inf")])),
    (
        LATER.format("its keys are not those of the format"),
        UPDATE,
        lambda world: read_header(world.model(more=1)),
    ),
    (LATER.format("training_info is not a section"), UPDATE, lambda world: read_header(world.model(training_info=1))),
    (
        LATER.format("a field is in the wrong section"),
        UPDATE,
        lambda world: read_header(world.decoder_with(rd_lambdas=[0.1, 0.2, 0.3])),
    ),
    (
        LATER.format("unknown key model.modulation in its JSON"),
        UPDATE,
        lambda world: read_header(world.decoder_with(modulation=1)),
    ),
    (
        "{path} is damaged, or of a later build: model.context: there is no 'spiral'",
        UPDATE,
        lambda world: read_model(world.decoder_with(context="spiral")),
    ),
    (
        OF_MODEL.format("its checksum does not match"),
        AGAIN,
        lambda world: read_model(world.model(digests=False, training_info={})),
    ),
    (
        OF_MODEL.format("its checksum does not match"),
        AGAIN,
        lambda world: read_model(world.model(digests=False, decoder_id="00" * 8)),
    ),
    *(
        (
            OF_MODEL.format(f"{name} is out of range"),
            "",
            lambda world, n=name, v=value: read_model(world.measured(n, v)),
        )
        for name, value in ((OFFSETS, 8.01), (CENTRES, -8.01), (ERROR_WEIGHT, 0.0), (ERROR_WEIGHT, 1.01e6))
    ),
    (
        OF_MODEL.format("it has the wrong number of tables of z"),
        "",
        lambda world: read_model(world.one_table_less()),
    ),
    (
        f"{LONG} cannot be read: File name too long",
        "check the name of the model",
        lambda world: choose_model(Path(LONG)),
    ),
    ("there is no model file or folder {path}", "", lambda world: find_models(OTHER_ID, world.no_file())),
    (f"there is no model file or folder {LONG}", "", lambda world: find_models(OTHER_ID, Path(LONG))),
    (
        "the file was written with the shipped model of format 3 (03e0c2589e47e682), which this build no longer reads",
        "use attncodec at commit 2b2ed70 to decode it",
        lambda world: find_models(next(iter(RETIRED)), None),
    ),
    (
        "model {other}, which wrote the file, is not in the shipped models, {folder}, here, there, "
        "runs/*/model.safetensors",
        "give its file or folder as the model, or set ATTNCODEC_MODELS to its folder",
        lambda world: find_models(OTHER_ID, world.folder),
    ),
]


ROWS = CONTAINER + FILES + CODING


@pytest.fixture(scope="module")
def world(codec: HyperpriorCodec, sealed: SealedCodec, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(codec, sealed, tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(("message", "hint", "provoke"), ROWS)
def test_an_error_says_what_is_wrong_and_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, message: str, hint: str, provoke: Callable[[World], object]
) -> None:
    """What stands for "…" is a library's own words."""
    monkeypatch.chdir(world.folder)
    monkeypatch.setenv(MODELS_VARIABLE, "here:there")
    with pytest.raises(AttncodecError) as caught:
        provoke(world)
    expected = re.escape(message.format(**world.names)).replace("…", ".+")
    assert re.fullmatch(expected, str(caught.value))
    assert caught.value.hint == (hint.format(**world.names) or type(caught.value).default_hint)


@pytest.mark.parametrize("provoke", WITHIN)
def test_what_is_just_within_a_limit_is_accepted(world: World, provoke: Callable[[World], object]) -> None:
    provoke(world)
