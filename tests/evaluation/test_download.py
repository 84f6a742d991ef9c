"""scripts/download_kodak, from a server of this machine."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import ROOT


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Return a folder with two files, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name in ("kodim01.png", "kodim02.png"):
        (folder / name).write_bytes(name.encode() * 100)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def clone(tmp_path: Path, served: tuple[Path, str]) -> Path:
    """Return a clone that knows the hashes of the served files instead of those of Kodak."""
    for folder in ("scripts", "attncodec/evaluation"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "download_kodak", tmp_path / "scripts")
    known = {path.name: {"file_sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in served[0].iterdir()}
    (tmp_path / "attncodec/evaluation/kodak.json").write_text(json.dumps({"pictures": known}))
    return tmp_path


def download(clone: Path, source: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/download_kodak", "kodak", "--source", source]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True)


def test_pictures_are_fetched_once(clone: Path, served: tuple[Path, str]) -> None:
    folder, source = served
    first = download(clone, source)
    assert first.returncode == 0 and first.stdout.count(".png") == 2, first.stderr
    assert {path.name: path.read_bytes() for path in (clone / "kodak").iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    (clone / "kodak" / "kodim02.png").write_bytes(b"half")
    assert download(clone, source).stdout.count(".png") == 1
    assert (clone / "kodak" / "kodim02.png").read_bytes() == (folder / "kodim02.png").read_bytes()


def test_another_picture_under_the_name_or_none_is_an_error_and_leaves_no_file(
    clone: Path, served: tuple[Path, str]
) -> None:
    folder, source = served
    (folder / "kodim01.png").write_bytes(b"something else")
    for said in ("SHA-256", "404"):
        result = download(clone, source)
        assert result.returncode == 2 and said in result.stderr and "hint: " in result.stderr
        assert not (clone / "kodak" / "kodim01.png").exists() and "Traceback" not in result.stderr
        (folder / "kodim01.png").unlink(missing_ok=True)
