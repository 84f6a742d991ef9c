"""Change the code in small ways, and count how many of the changes the tests notice: mutation testing by mutmut.

    python scripts/mutate.py [--minutes 80] [--out results/mutation.json]    # pip install -e '.[mutation]' first

[tool.mutmut] in pyproject.toml names the code that is changed: the code that writes and reads files, and the code that
measures them. Mutants are tried in a random order, which the seed fixes, until the time is up. mutmut keeps its results
in mutants/, and the same command continues from there; delete that folder after a change of the code. Nothing should
run beside it, because a mutant that makes a test hang is found by its time. OUT lists the survivors, each with what it
changes.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from attncodec.environment import git_commit
from attncodec.files import write_atomic

FEW = "attncodec.coding.shipped.*"  # mutmut makes all mutants when it first runs some, so it begins with few
BATCH = 60
ALIVE = {0: "survived", 33: "no test runs it"}  # mutmut's other exit codes mean that a test failed or hung
MUTMUT = [sys.executable, "-W", "ignore", "-m", "mutmut"]


def run_mutants(names: list[str]) -> None:
    """Run the tests against these mutants."""
    command = [*MUTMUT, "run", "--max-children", str(len(os.sched_getaffinity(0))), *names]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def exit_codes() -> dict[str, int | None]:
    """Return the exit codes that mutmut has found, by the name of the mutant, None where it has not run."""
    found: dict[str, int | None] = {}
    for path in sorted(Path("mutants").rglob("*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def change_of(name: str) -> str:
    """Return the lines that a mutant changes, as a diff without its heading."""
    shown = subprocess.run([*MUTMUT, "show", name], check=True, capture_output=True, text=True).stdout
    return "\n".join(line for line in shown.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---"))


def summary(seed: int) -> dict[str, Any]:
    """Count the mutants that have run so far, and describe those that survived."""
    codes = exit_codes()
    ran = {name: code for name, code in codes.items() if code is not None}
    alive = {name: ALIVE[code] for name, code in ran.items() if code in ALIVE}
    return {
        "seed": seed,
        "git_commit": git_commit(),
        "mutants": len(codes),
        "tried": len(ran),
        "killed": len(ran) - len(alive),
        "killed_percent": round(100 * (len(ran) - len(alive)) / len(ran), 1),
        "survivors": [{"name": name, "why": why, "change": change_of(name)} for name, why in sorted(alive.items())],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/mutation.json"))
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    if not Path("mutants").exists():
        run_mutants([FEW])
    names = sorted(exit_codes())
    random.Random(options.seed).shuffle(names)
    while time.monotonic() < end:
        codes = exit_codes()
        batch = [name for name in names if codes[name] is None][:BATCH]
        if not batch:
            break
        run_mutants(batch)
    found = summary(options.seed)
    write_atomic(options.out, (json.dumps(found, indent=2) + "\n").encode())
    print(f"{found['tried']} of {found['mutants']} mutants tried, {found['killed_percent']} % killed")


if __name__ == "__main__":
    main()
