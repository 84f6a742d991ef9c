"""YAML is read and written here by the core schema of YAML 1.2, so that a value is what it looks like.

PyYAML itself follows YAML 1.1, where `1:30` is 90, `010` is 8, `no` is false and `1e-3` is a text. Here, numbers are
decimal, only `true` and `false` are booleans, and dates are texts. Keys are texts, and none may be given twice.
Tags are refused, and so are aliases, because a few of them can stand for more values than fit into memory.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from attncodec.errors import ConfigError

DEPTH_MAX = 20  # A configuration has five levels.
RESOLVERS = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]{1,100}", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


class CoreLoader(yaml.BaseLoader):
    """Reads one document."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, unless it is an alias, has a tag, or is too deep for the stack."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _error("aliases are not read: repeat the value", event)
        if getattr(event, "tag", None):
            raise _error(f"tags such as {event.tag} are not read", event)
        if self.depth == DEPTH_MAX:
            raise _error(f"more than {DEPTH_MAX} levels are nested", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a dict whose keys are the texts in the file."""
        mapping: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error("a key must be a name", key)
            if key.value in mapping:
                raise _error(f"the key {key.value} is given twice", key)
            mapping[key.value] = self.construct_object(value, deep=True)
        return mapping


def _error(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


class CoreDumper(yaml.SafeDumper):
    """Writes what `CoreLoader` reads back to equal values."""


for kind, (pattern, first_characters) in RESOLVERS.items():
    first = [character.strip("\0") for character in first_characters]  # An empty value has no first character.
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})\\Z"), first)
CoreDumper.yaml_implicit_resolvers = CoreLoader.yaml_implicit_resolvers

CONSTRUCTORS = {
    "null": lambda loader, node: None,
    "bool": lambda loader, node: node.value.lower() == "true",
    "int": lambda loader, node: int(node.value),
    "float": lambda loader, node: float(re.sub(r"\.(?=[iInN])", "", node.value)),  # .inf is inf in Python
    "str": lambda loader, node: node.value,
    "seq": lambda loader, node: loader.construct_sequence(node, deep=True),
    "map": lambda loader, node: loader.construct_mapping(node, deep=True),
}
for kind, constructor in CONSTRUCTORS.items():
    CoreLoader.add_constructor(f"tag:yaml.org,2002:{kind}", constructor)


def parse_yaml(text: str, source: str) -> Any:
    """Parse a document. Raises a ConfigError that names `source`, and the line of what is wrong."""
    try:
        return yaml.load(text, Loader=CoreLoader)
    except yaml.YAMLError as error:
        problem, mark = getattr(error, "problem", None) or str(error), getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(
            f"{source} cannot be read as YAML: {line}{' '.join(problem.split())}",
            "a configuration looks like train: {batch: 8}, or the same in lines and indents",
        ) from None


def write_yaml(tree: dict[str, Any]) -> str:
    """Return YAML that `parse_yaml` reads back, with short lists and sections in one line each."""
    text: str = yaml.dump(tree, Dumper=CoreDumper, sort_keys=False, default_flow_style=None)
    return text
