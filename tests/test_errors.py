import ast
import re
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT
from test_refusals import ROWS

from attncodec.errors import CheckpointError, ConfigError, ContainerError


def messages_in(path: Path) -> Iterator[str]:
    """Yield a pattern for the message of each error that a module makes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            text: ast.expr = node.args[0]
            while isinstance(text, ast.BinOp):
                text = text.left
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            yield "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in parts)


ERRORS = {error.__name__ for error in (CheckpointError, ConfigError, ContainerError)}
MODULES = [ROOT / "attncodec" / "container.py", *sorted((ROOT / "attncodec" / "coding").glob("*.py"))]


def test_no_error_is_missing_from_the_table_of_test_refusals() -> None:
    known = [message for message, _, _ in ROWS]
    patterns = [pattern for path in MODULES for pattern in messages_in(path)]
    assert len(patterns) > 40
    assert not [pattern for pattern in patterns if not any(re.match(pattern, message) for message in known)]
