"""Check that `train --dry-run` promises as many steps as training takes.

    python scripts/benchmarks/dry_run.py PICTURES [--config default] [--budget 60s] [--out results/dry_run.json]

The script does the dry run, then trains for the budget, each in a process of its own, and compares the steps. It fails
if they differ by more than a tenth.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from attncodec.environment import versions
from attncodec.files import write_atomic

LIMIT = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--config", default="default")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--out", type=Path, default=Path("results/dry_run.json"))
    options = parser.parse_args()
    overrides = [f"data.train={options.pictures}", f"train.budget={options.budget}", "train.validations=1"]
    command = [sys.executable, "-m", "attncodec", "train", "--config", str(options.config), *overrides]
    said = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True).stdout
    promised = int(re.findall(r"about (\d+) steps", said)[0])
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run([*command, "--out", f"{folder}/run"], capture_output=True, text=True, check=True)
    taken = int(re.findall(r"finished at step (\d+)", run.stderr)[0])
    result = {
        "config": options.config,
        "budget": options.budget,
        "promised_steps": promised,
        "taken_steps": taken,
        "versions": versions("cpu"),
    }
    write_atomic(options.out, (json.dumps(result, indent=2) + "\n").encode())
    print(f"{promised} steps promised, {taken} taken")
    if abs(promised / taken - 1) > LIMIT:
        sys.exit("the numbers of steps differ by more than a tenth")


if __name__ == "__main__":
    main()
