"""The import order of the design, read off the source."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "attncodec"

# Each room may import those of the rows above it, and its own.
ROWS = [
    {"attncodec", "errors"},
    {"budget"},
    {"files", "environment", "config", "team"},
    {"container"},
    {"images"},
    {"metrics"},
    {"model"},
    {"api", "evaluation"},
    {"training"},
    {"console"},
    {"cli"},
    {"__main__"},
]
FORBIDDEN = {("training", "api"), ("evaluation", "api"), ("api", "evaluation")}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "attncodec":
            if node.module == "attncodec":
                names = {alias.name for alias in node.names}
                found |= {
                    name if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir() else "attncodec"
                    for name in names
                }
            else:
                found.add(room(node.module))
        elif isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.split(".")[0] == "attncodec"}
    return found


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way_only(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    here = (
        "attncodec"
        if relative.name == "__init__.py" and len(relative.parts) == 1
        else relative.parts[0].removesuffix(".py")
    )
    row = next(number for number, rooms in enumerate(ROWS) if here in rooms)
    allowed = set().union(*ROWS[:row], {here})
    assert imports(path) <= allowed
    assert not {(here, other) for other in imports(path)} & FORBIDDEN


def test_files_stay_short() -> None:
    for path in SOURCES:
        assert len(path.read_text().splitlines()) <= 320, path


def test_compressai_is_imported_inside_one_function_only() -> None:
    importing = [
        path for path in SOURCES if "import compressai" in path.read_text() or "from compressai" in path.read_text()
    ]
    assert [path.name for path in importing] == ["priors.py"]
    top = ast.parse(importing[0].read_text()).body
    assert not any("compressai" in ast.unparse(node) for node in top if isinstance(node, ast.Import | ast.ImportFrom))
