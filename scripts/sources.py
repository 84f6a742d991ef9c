"""Files under results/: what wrote each, at which commit, and how their figures are laid out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).absolute().parent.parent / "results"
# What wrote the files of a folder or of a file; where it is gone by now, the commit says where it was.
COMMANDS = {
    "ablation": "scripts/studies/ablate.py",
    "attention": "scripts/studies/attention.py",
    "attention_inside": "scripts/study_attention_inside.py",
    "bench_codec.json": "scripts/benchmarks/codec.py",
    "bench_training_cpu.json": "scripts/benchmarks/training.py",
    "browser.json": "scripts/check_browser.py",
    "capacity": "scripts/study_capacity.py",
    "context": "scripts/study_context.py",
    "coding.json": "scripts/check_coding.py",
    "dry_run.json": "scripts/benchmarks/dry_run.py",
    "effort": "scripts/benchmarks/effort.py",
    "equal_time": "scripts/benchmarks/equal_time.py",
    "exact.json": "scripts/check_exact.py",
    "exact_gpu.json": "scripts/check_exact.py",
    "format_4": "scripts/study_format.py",
    "growth.json": "scripts/studies/growth.py",
    "hostile.json": "scripts/check_hostile.py",
    "interrupted.json": "scripts/check_interrupted.py",
    "large.json": "scripts/check_large.py",
    "mutation.json": "scripts/mutate.py",
    "optimisers": "scripts/studies/optimisers.py",
    "optimisers_20_minutes": "scripts/studies/optimisers.py",
    "own_parts.json": "scripts/benchmarks/own_parts.py",
    "quickstart": "scripts/quickstart",
    "shipped": "scripts/train_shipped",
    "shipped/kodak": "attncodec eval kodak",
    "stripes.json": "scripts/check_stripes.py",
}


def load(name: str) -> Any:
    """Read a JSON file under results/."""
    return json.loads((RESULTS / name).read_text())


def commits_in(tree: Any) -> Iterator[str]:
    """Find every commit that a JSON file names."""
    if isinstance(tree, dict):
        if isinstance(tree.get("git_commit"), str):
            yield tree["git_commit"][:7]
        for value in tree.values():
            yield from commits_in(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from commits_in(value)


def source(*names: str) -> str:
    """Say which command, at which commits, wrote these files or folders under results/."""
    paths = [path for name in names for path in ([RESULTS / name] if "." in name else (RESULTS / name).rglob("*.json"))]
    commits = list(
        dict.fromkeys(commit for path in sorted(paths) for commit in commits_in(json.loads(path.read_text())))
    )
    command, places = (
        COMMANDS.get(names[0], COMMANDS[names[0].split("/")[0]]),
        ", ".join(f"`results/{name}`" for name in names),
    )
    return f"*{places}, by `{command}` at {', '.join(f'`{commit}`' for commit in commits)}*\n"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Lay out a table: the first column to the left, all others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
