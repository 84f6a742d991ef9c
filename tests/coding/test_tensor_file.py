import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from attncodec.coding.tensor_file import canonical_json, read_format, read_meta, read_tensors, sha256_of, to_bytes
from attncodec.errors import CheckpointError


def test_json_is_sorted_without_spaces_and_has_only_finite_numbers() -> None:
    assert canonical_json({"b": {"d": 1, "c": None}, "a": [1.5, "ä"]}) == '{"a":[1.5,"\\u00e4"],"b":{"c":null,"d":1}}'
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            canonical_json(value)


def test_a_digest_covers_names_dtypes_shapes_and_bytes_in_order_of_name() -> None:
    tensors = {"b": torch.tensor([[1, 2], [3, 258]], dtype=torch.int32).T, "a": torch.tensor([1.0])}
    data = b"before\na torch.float32 [1]\n\0\0\x80\x3fb torch.int32 [2, 2]\n"
    data += b"".join(bytes([low, high, 0, 0]) for low, high in ((1, 0), (3, 0), (2, 0), (2, 1)))
    assert sha256_of(tensors, "before\n").hexdigest() == hashlib.sha256(data).hexdigest()
    assert sha256_of({}).hexdigest() == hashlib.sha256().hexdigest()


@pytest.mark.parametrize(("meta", "expected"), [({"format": "one"}, "one"), ({}, ""), (["one"], "")])
def test_the_format_of_a_file_is_read_where_it_has_one(tmp_path: Path, meta: Any, expected: str) -> None:
    (tmp_path / "file").write_bytes(to_bytes({}, meta))
    assert read_format(tmp_path / "file") == expected


def test_the_json_comes_back(tmp_path: Path) -> None:
    meta = {"format": "one", "more": [1, 2.5, None, "text"]}
    (tmp_path / "file").write_bytes(to_bytes({"a": torch.zeros(3)}, meta))
    assert read_meta(tmp_path / "file", "one") == meta


TENSORS = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([[3, 4, 5]], dtype=torch.int32)}
FORMS = {"a": ([2], "F32"), "b": ([1, 3], "I32")}


def read(folder: Path, expected: Any = None, optional: Any = None) -> dict[str, torch.Tensor]:
    (folder / "file").write_bytes(to_bytes(TENSORS, {}))
    return read_tensors(folder / "file", expected, optional)


@pytest.mark.parametrize(
    ("expected", "optional"),
    [
        (None, None),
        (FORMS, None),
        ({**FORMS, "a": (None, "F32")}, {"c": ([1], "F32")}),
        ({"a": ([2], "F32")}, {"b": ([1, 3], "I32")}),
        ({}, FORMS),
    ],
)
def test_tensors_of_the_expected_forms_are_read(tmp_path: Path, expected: Any, optional: Any) -> None:
    found = read(tmp_path, expected, optional)
    assert list(found) == ["a", "b"] and all(torch.equal(found[name], TENSORS[name]) for name in found)
    assert found["a"].dtype == torch.float32 and found["b"].dtype == torch.int32


@pytest.mark.parametrize(
    ("expected", "optional"),
    [
        ({}, None),
        ({"a": ([2], "F32")}, {}),
        ({**FORMS, "c": ([1], "F32")}, None),
        ({**FORMS, "b": (None, "I32")}, None),
        ({**FORMS, "b": ([3], "I32")}, None),
        ({**FORMS, "a": ([2], "F16")}, None),
        ({**FORMS, "a": (None, "F16")}, None),
        ({"a": ([2], "F32")}, {"b": ([1, 3], "I16")}),
    ],
)
def test_tensors_of_other_forms_are_refused(tmp_path: Path, expected: Any, optional: Any) -> None:
    with pytest.raises(CheckpointError, match="tensor"):
        read(tmp_path, expected, optional)


@pytest.mark.parametrize("said", ["two\nlines", "\x1b[2J", "x" * 100_000, "\ud800", [1] * 100_000])
def test_what_a_file_says_is_shown_in_a_line_of_signs(tmp_path: Path, said: Any) -> None:
    (tmp_path / "file").write_bytes(to_bytes({}, {"format": said}))
    with pytest.raises(CheckpointError, match="the format of") as caught:
        read_meta(tmp_path / "file", "any")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "x" * 100_000])
def test_names_of_tensors_are_shown_in_a_line_of_signs(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(to_bytes({name: torch.tensor([float("nan")])}, {}))
    for expected in ("unknown", "not finite"):
        with pytest.raises(CheckpointError, match=expected) as caught:
            read_tensors(tmp_path / "file", {} if expected == "unknown" else None)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 400
