"""Commands in two processes that torchrun starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import attncodec

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "attncodec")


def in_two(*arguments: Any, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *TORCHRUN, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, env=environment, timeout=200)


@pytest.mark.gate
def test_two_processes_write_the_files_of_one_and_wait_for_each_other(
    pictures: Path, model_file: Path, tmp_path: Path
) -> None:
    (pictures / "damaged.png").write_bytes(b"no picture")
    sources = sorted(path for path in pictures.rglob("*") if path.is_file())
    for out, run in (("one", attncodec), ("two", in_two)):
        done = run("compress", *sources, "-o", out, "-m", model_file, cwd=tmp_path)
        assert done.returncode == 1
    assert b"1 of 5 files failed" in done.stderr and done.stderr.count(b"error: ") == 1
    assert done.stdout.count(b" bytes ") == 4
    written = [{path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in ("one", "two")]
    assert written[0] == written[1] and len(written[0]) == 4
    again = in_two("compress", *sources, "-o", "two", "-m", model_file, cwd=tmp_path)
    assert again.returncode != 0 and again.stderr.count(b"already exists") == 1


@pytest.mark.gate
def test_two_processes_measure_what_one_does(pictures: Path, model_file: Path, tmp_path: Path) -> None:
    found = []
    for out, run in (("one", attncodec), ("two", in_two)):
        done = run("eval", pictures, "-q", 2, "-m", model_file, "-o", out, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        results = json.loads(done.stdout)
        for row in (*results["records"], *(point for points in results["points"].values() for point in points)):
            del row["encode_s"], row["decode_s"], row["peak_mib"]
        found.append([results[part] for part in ("pictures", "points", "axes", "records")])
        assert (tmp_path / out / "results.csv").exists()
    assert found[0] == found[1] and found[0][3][-1]["name"] == "more/d.png"


@pytest.mark.gate
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--config", "defualt"), b"did you mean default?"),
        (("train", "--config", "tiny"), b"data.train is not set"),
        (("train", "--config", "tiny", "data.train=nowhere"), b"there is no folder"),
        (("train", "--config", "tiny", "--devise", "cpu"), b"--device"),
        (("train", "--config", "x" * 300), b"File name too long"),
        (("eval",), b"no folder of pictures is given"),
        (("compress", "x.png", "--force", "--skip-existing"), b"cannot be combined"),
        (("compress", ""), b"an argument is empty"),
    ],
)
def test_what_two_processes_refuse_is_said_once(tmp_path: Path, arguments: tuple[str, ...], message: bytes) -> None:
    refused = in_two(*arguments, cwd=tmp_path)
    assert refused.returncode != 0 and message in refused.stderr
    assert len([line for line in refused.stderr.splitlines() if line.startswith(b"error: ")]) == 1
    assert not list(tmp_path.iterdir())
