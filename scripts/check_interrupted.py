"""Kill and interrupt batches, and account for every file.

    python scripts/check_interrupted.py [--model MODEL] [--kills 200] [--files 2000] [--out results/interrupted.json]

A folder is compressed again and again, and the process is killed (SIGKILL) at random moments. Each output must be
absent or have the bytes that it should have. A last run must write those that are missing, and leave no unfinished
file. The process is a fork of one that has imported everything, so that the moments are those of the work.

A folder of mixed files (small pictures of many kinds, damaged ones, other files, hidden ones, links) is compressed,
which Ctrl-C ends twice, and goes on with --skip-existing; then its files are decompressed, which Ctrl-C ends once. The
totals must account for every file. What does not hold is an error.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attncodec.cli import app
from attncodec.console import INTERRUPTED
from attncodec.console import run as run_console
from attncodec.container import unpack
from attncodec.environment import versions
from attncodec.files import UNFINISHED, write_atomic
from attncodec.pictures import read_rgb

MODEL = Path(__file__).parent.parent / "tests" / "data" / "levels" / "tiny.safetensors"
PICTURES, LONGEST_S, PATIENCE_S = 12, 0.5, 30.0
TOTALS = re.compile(
    r"(\d+) files: (\d+) written, (\d+) skipped, (\d+) left out, (\d+) failed(?:, (\d+) not reached)?; "
)
KINDS = {
    **{".png": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"), ".jpg": ("RGB", "L", "CMYK"), ".webp": ("RGB", "RGBA")},
    **{".gif": ("P", "L"), ".bmp": ("RGB", "L"), ".tif": ("RGB", "RGBA", "L", "CMYK", "I;16"), ".ppm": ("RGB", "L")},
}
OTHERS = (".txt", ".heic", ".mov", ".xmp", "", ".json")
HIDDEN = ("._{}.jpg", ".{}.png", "@eaDir/{}.png", "__MACOSX/{}.jpg", ".thumbnails/{}.png")


def picture(number: int, mode: str = "RGB") -> Image.Image:
    """Make a small picture of smooth colours and a little noise."""
    rng = np.random.default_rng(number)
    height, width = (int(side) for side in rng.integers(24, 72, 2))
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / rng.uniform(3, 20) + y / rng.uniform(3, 20)) * 90 + 128 for _ in range(4)]
    pixels = (np.stack(planes, axis=2) + rng.normal(0, 4, (height, width, 4))).clip(0, 255).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(pixels).convert("RGB" if mode in ("P", "1", "CMYK") else mode).convert(mode)


def unfinished(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*".join(UNFINISHED)))


def compress_for_ever(arguments: list[str]) -> None:
    """Compress again and again in a process of its own, which does not return."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    sys.argv = ["attncodec", *arguments]
    while True:
        try:
            run_console(app)
        except SystemExit as end:
            if end.code:
                os._exit(1)


def wait_for_output(folder: Path, begun_ns: int) -> None:
    """Wait until a file in a folder is newer than a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not any(path.stat().st_mtime_ns > begun_ns for path in folder.glob("*.atc")):
        time.sleep(0.002)


def check_kills(model: Path, kills: int) -> tuple[dict[str, Any], list[str]]:
    """Kill a process at random moments while it compresses a folder. Returns what was found, and what does not hold."""
    rng, problems, found, start = random.Random(0), list[str](), Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        source, out, expected_at = (Path(name) / part for part in ("in", "out", "expected"))
        source.mkdir()
        for number in range(PICTURES):
            picture(number).save(source / f"{number}.png")
        subprocess.run(command("compress", source, "-o", expected_at, "-m", model), check=True, capture_output=True)
        expected = {path.name: path.read_bytes() for path in expected_at.iterdir()}
        for kill in range(kills):
            if rng.random() < 0.5:
                shutil.rmtree(out, ignore_errors=True)
            child = os.fork()
            if not child:
                compress_for_ever(["compress", str(source), "-o", str(out), "-m", str(model), "--force"])
            if rng.random() < 0.9:  # the others are killed while they start
                wait_for_output(out, time.time_ns())
            time.sleep(rng.uniform(0, LONGEST_S))
            os.kill(child, signal.SIGKILL)
            if os.waitpid(child, 0)[1] != signal.SIGKILL:
                problems.append(f"kill {kill}: the process had ended by itself")
            for file, data in expected.items():
                path = out / file
                state = "absent" if not path.exists() else "whole" if path.read_bytes() == data else "half"
                found[state] += 1
            found["unfinished"] += unfinished(out)
        last = subprocess.run(
            command("compress", source, "-o", out, "-m", model, "--skip-existing"), capture_output=True
        )
        complete = {path.name: path.read_bytes() for path in out.iterdir()} == expected
    problems += [f"{found['half']} outputs are neither absent nor whole"] * (found["half"] > 0)
    problems += ["the last run did not complete the folder"] * (last.returncode != 0 or not complete)
    counts = {state: found[state] for state in ("whole", "absent", "half", "unfinished")}
    return {"moments": kills, **counts, "seconds": round(time.monotonic() - start, 1)}, problems


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "attncodec", *map(str, arguments)]


def make_mixed(folder: Path, files: int) -> Counter[str]:
    """Make a folder of mixed files. Returns how many there are of each: good, damaged, others, hidden and broken."""
    made, kinds = Counter[str](), [(suffix, mode) for suffix, modes in KINDS.items() for mode in modes]
    for number in range(files):
        place = folder / f"{number % 7}" / f"{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        turn, name = number % 20, f"n{number}"
        if turn < 14:
            suffix, mode = kinds[number % len(kinds)]
            picture(number, mode).save(place / f"{name}{suffix if number % 2 else suffix.upper()}")
            made["good"] += 1
        elif turn == 14:
            whole = folder / "whole.tmp"
            picture(number).save(whole, "PNG")
            data = whole.read_bytes()
            whole.unlink()
            (place / f"{name}.png").write_bytes(
                random.Random(number).choice((b"", b"no picture", data[: len(data) // 2]))
            )
            made["damaged"] += 1
        elif turn < 17:
            (place / f"{name}{OTHERS[number % len(OTHERS)]}").write_bytes(b"something else")
            made["others"] += 1
        elif turn == 17:
            path = place / HIDDEN[number % len(HIDDEN)].format(name)
            path.parent.mkdir(exist_ok=True)
            picture(number).save(path)
            made["hidden"] += 1
        elif turn == 18:
            (place / f"{name}.png").symlink_to("nothing.png")
            made["broken"] += 1
        else:  # a link to a folder that is read anyway, or to one above it
            (place / name).symlink_to(("..", "../..", ".")[number % 3])
            made["links"] += 1
    return made


def interrupted(arguments: list[str], out: Path, suffix: str, count: int) -> int:
    """Run a command, and press Ctrl-C when so many outputs are there. Returns the exit code."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and sum(1 for _ in out.rglob(f"*{suffix}")) < count:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    return process.wait()


def to_the_end(arguments: list[str]) -> tuple[int, list[int]]:
    """Run a command to its end. Returns its exit code and its totals: found, written, skipped, left out and failed."""
    done = subprocess.run(arguments, capture_output=True, text=True, errors="replace")
    totals = TOTALS.search(done.stderr)
    return done.returncode, [int(count or 0) for count in totals.groups()[:5]] if totals else [0] * 5


def check_batch(model: Path, files: int) -> tuple[dict[str, Any], list[str]]:
    """Interrupt a large batch, and let it go on. Returns what was found, and what does not hold."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        source, out, back = (Path(name) / part for part in ("in", "out", "back"))
        made = make_mixed(source, files)
        going_on = [*command("compress", source, "-o", out, "-m", model), "--skip-existing"]
        codes = [interrupted(going_on, out, ".atc", made["good"] * part // 3) for part in (1, 2)]
        between = {"atc": sum(1 for _ in out.rglob("*.atc")), "unfinished": unfinished(out)}
        code, totals = to_the_end(going_on)
        for path in out.rglob("*.atc"):
            unpack(path.read_bytes())
        decoding = [*command("decompress", out, "-o", back, "-m", model), "--skip-existing"]
        codes.append(interrupted(decoding, back, ".png", made["good"] // 2))
        decoded, decoded_totals = to_the_end(decoding)
        readable = sum(1 for path in back.rglob("*.png") if read_rgb(path).size)
        left = unfinished(Path(name))
    found, written, skipped, left_out, failed = totals
    held = {
        "an interruption did not end with 130": codes == [INTERRUPTED] * 3,
        "an interruption left an unfinished file": between["unfinished"] == left == 0,
        "the exit codes": (code, decoded) == (1, 0),
        "not every file is accounted for": found
        == written + skipped + left_out + failed
        == files - made["hidden"] - made["links"],
        "what was written and skipped": written + skipped == made["good"] and skipped >= between["atc"] > 0,
        "what was left out": left_out == made["others"] + made["broken"],
        "what failed": failed == made["damaged"],
        "what was decoded": decoded_totals[0] == sum(decoded_totals[1:3]) == readable == made["good"],
    }
    report = {
        "made": dict(made),
        "compress": dict(zip(("found", "written", "skipped", "left_out", "failed"), totals, strict=True)),
        "decompress": dict(zip(("found", "written", "skipped", "left_out", "failed"), decoded_totals, strict=True)),
        "seconds": round(time.monotonic() - start, 1),
    }
    return report, [problem for problem, holds in held.items() if not holds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("results/interrupted.json"))
    options = parser.parse_args()
    model = options.model.resolve()
    kills, problems = check_kills(model, options.kills)
    print(json.dumps(kills), flush=True)
    batch, others = check_batch(model, options.files)
    print(json.dumps(batch), flush=True)
    report = {"kills": kills, "batch": batch, "versions": versions("cpu")}
    write_atomic(options.out, (json.dumps(report, indent=2) + "\n").encode())
    print("\n".join(problems + others), file=sys.stderr)
    return 1 if problems or others else 0


if __name__ == "__main__":
    sys.exit(main())
