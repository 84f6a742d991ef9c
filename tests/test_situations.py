import re

from conftest import ROOT


def test_every_situation_names_a_test_that_exists() -> None:
    table = (ROOT / "tests" / "situations.md").read_text()
    tests = set(re.findall(r"def (test_\w+)", "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))))
    named = re.findall(r"\| `(test_\w+|scripts/\w+\.py)` \|$", table, re.MULTILINE)
    assert len(named) == len(table.splitlines()) - 4
    assert not [name for name in named if name not in tests and not (ROOT / name).is_file()]
