import pytest

from attncodec.names import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b|c$ä\u4e2d.png", "a b|c$ä\u4e2d.png"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\a", "a\\nb\\x07"),
        ("\u202egnp.a", "\\u202egnp.a"),
        ("\udcff.png", "\\udcff.png"),
    ],
)
def test_what_is_no_sign_of_its_own_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
