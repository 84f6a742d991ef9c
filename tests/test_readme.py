from pathlib import Path

import pytest
from conftest import ROOT

TABLES = sorted((ROOT / "results").glob("*/table.md"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_the_tables_of_the_readme_are_those_that_scripts_wrote(path: Path) -> None:
    readme = (ROOT / "README.md").read_text().splitlines()
    rows = [line for line in path.read_text().splitlines() if line.startswith("|")]
    assert rows and all(row in readme for row in rows)
    assert f"results/{path.parent.name}" in "\n".join(readme)
