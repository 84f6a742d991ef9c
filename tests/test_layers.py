"""The import order and the limits of the design, checked in the source."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "attncodec"
LINES_MAX, FUNCTION_LINES_MAX = 300, 60

# A module or folder of the package may import itself and those in the rows above it.
ROWS = [
    {"errors", "names", "version"},
    {
        "batches",
        "budget",
        "files",
        "finding",
        "quality",
        "distributed",
        "device",
        "environment",
        "registry",
        "configs",
        "folder_lock",
    },
    {"config"},
    {"config_file"},
    {"container"},
    {"salvage"},
    {"pictures"},
    {"metrics"},
    {"networks"},
    {"coding"},
    {"evaluation"},
    {"training"},
    {"describe"},
    {"api"},
    {"attncodec", "console", "pillow"},
    {"cli"},
    {"__main__"},
]
# The vocabulary of the design replaced these names, and they must not come back.
OLD_NAMES = {
    *("LEVELS", "UNIT_LEVEL", "SKIP_LEVEL", "LEVELS_PER_OCTAVE", "level_scale", "means_and_levels", "quality_64"),
    *("position", "to_steps", "to_units", "Codec", "Analysis", "Synthesis", "GatedAttention", "Channel", "Noise"),
    *("Round", "Encoded", "Write", "Read", "FloatPrior", "ExactPrior", "float_twin", "ONE", "exact", "exact_tensors"),
    *("exact_shapes", "ExactConv", "ExactLeaky", "Encoding", "find", "_highest", "Learner", "_take", "_move", "watch"),
    *("jumped", "GoodStates", "generation", "Ahead", "Room", "REUSE", "OTHERS_FACTOR", "Team", "lead", "from_lead"),
    *("lead_says", "total", "FollowedError", "ours", "each", "write_whole", "plan", "begin", "view", "initial"),
    *("anchors", "EFFORTS", "guard", "team", "learner", "twin"),
}
ALLOWED = {("api", "Codec")}  # programs load this class, which is no nn.Module


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def row(module: str) -> int:
    return next(number for number, rooms in enumerate(ROWS) if room(module) in rooms)


def imports(module: str) -> set[str]:
    """Return the modules of the package that a module imports anywhere, also for types only."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & SOURCES.keys() or {node.module}
    return {name for name in found if name in SOURCES} - {module}


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_one_way_only(module: str) -> None:
    wrong = {
        other
        for other in imports(module)
        if row(other) > row(module)
        or (row(other) == row(module) != 0 and room(other) != room(module) and room(module) not in ROWS[1])
    }
    assert not wrong


def test_no_module_imports_one_that_imports_it() -> None:
    graph, done = {module: imports(module) for module in SOURCES}, set[str]()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a cycle: {' > '.join([*way, module])}"
        if module not in done:
            for other in graph[module]:
                visit(other, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", SOURCES)
def test_files_and_functions_stay_short(module: str) -> None:
    text = SOURCES[module].read_text()
    assert len(text.splitlines()) <= LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, node.name


@pytest.mark.parametrize("module", SOURCES)
def test_old_names_are_gone(module: str) -> None:
    tree = ast.parse(SOURCES[module].read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    constants = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    defined |= {node.id for part in constants for node in ast.walk(part) if isinstance(node, ast.Name)}
    assert not {name for name in defined & OLD_NAMES if (room(module), name) not in ALLOWED}
    assert not {*module.split(".")[1:]} & OLD_NAMES


def test_compressai_is_a_peer_and_never_imported() -> None:
    assert not [path for path in SOURCES.values() if re.search("(import|from) compressai", path.read_text())]
