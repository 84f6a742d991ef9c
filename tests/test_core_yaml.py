import math
from typing import Any

import pytest

from attncodec.configs.core_yaml import parse_yaml, write_yaml
from attncodec.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("010", 10),
        ("+5", 5),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1e-3", 0.001),
        ("1.5E3", 1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("2024-01-31", "2024-01-31"),
        ("~", None),
        ("~/photos", "~/photos"),
        ("", None),
        ("'5'", "5"),
        ("[1, a, true]", [1, "a", True]),
        ("{1: 2, null: 3, <<: 4}", {"1": 2, "null": 3, "<<": 4}),
    ],
)
def test_a_value_is_what_it_looks_like(text: str, value: Any) -> None:
    parsed = parse_yaml(text, "c.yaml")
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key a is given twice"),
        ("a:\n  b: 1\n  b: 1\n", "line 3: the key b is given twice"),
        ("a: &x [1]\nb: *x\n", "line 2: aliases are not read"),
        ("&a [*a]", "line 1: aliases are not read"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: tags such as tag:yaml.org,2002:python/object/apply"),
        ("a: !!bool yes", "line 1: tags"),
        ("? [1]\n: 2\n", "line 1: a key must be a name"),
        ("a: [1", "line 1: expected ','"),
        ("a: 1\n--- 2\n", "line 2: but found another document"),
        ("a: \0", "special characters"),
        ("[" * 3000, "line 1: more than 20 levels"),
        ("{a: " * 3000 + "}" * 3000, "line 1: more than 20 levels"),
        ("- " * 3000 + "a", "line 1: more than 20 levels"),
    ],
)
def test_what_could_surprise_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "c.yaml")
    assert str(caught.value).startswith("c.yaml cannot be read as YAML: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_written_reads_back_equal() -> None:
    texts = [
        "1e-3",
        "010",
        "true",
        "yes",
        "null",
        "",
        "~",
        "1:30",
        ".5",
        "a: b",
        "# no",
        "2024-01-31",
        " x",
        "*x",
        "1e5",
    ]
    tree = {"texts": texts, "numbers": [1, 1e-05, 2.5, 1e300, -3], "section": {"a": None, "b": True, "c": []}}
    assert parse_yaml(write_yaml(tree), "c.yaml") == tree
