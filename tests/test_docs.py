"""README.md and docs/: their figures are those of the files, and what they show runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Cli, photo
from fill_pages import filled
from PIL import Image

from attncodec.coding.shipped import shipped
from attncodec.config import Config
from attncodec.config_file import load_config

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# These commands need what a test does not have; each with the reason.
NOT_RUN = {
    "pip install": "it would change the environment; CONTRIBUTING says how a wheel is tried",
    "git clone": "there is no host",
    "cd ": "it only changes the folder",
    "scripts/quickstart": "the gate runs it",
    "scripts/test": "it runs this test",
    "torchrun": "several processes; tests/training/test_distributed_training.py runs it",
    "sbatch": "it needs Slurm",
    ".venv/bin/pre-commit": "it writes into .git",
    "python scripts/": "tests/test_scripts.py runs the scripts",
}
# A run of two steps with small networks, where a page shows one of hours.
QUICK = [
    *("train.budget=2", "train.batch=2", "train.validations=1", "data.crop=64", "model.widths=[0,16,24]"),
    *("model.analysis_blocks=[0,1,1]", "model.synthesis_blocks=[0,1,1]", "model.latent_channels=24"),
    *("model.hyper_channels=16", "model.context_width=32"),
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands() -> list[Any]:
    """List the commands of all pages, each once, with the page that has it first."""
    found: dict[str, str] = {}
    for page in PAGES:
        for line in "".join(blocks(page, "shell")).splitlines():
            command = re.sub(r"\s+#.*", "", line).strip()
            if command:
                found.setdefault(command, page.name)
    return [pytest.param(page, command, id=f"{page}: {command}") for command, page in found.items()]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder that has whatever the pages name: photographs, a file of the shipped model, and a run."""
    for name, count in (("photos", 4), ("kodak", 1), ("/shared/photos".lstrip("/"), 1)):
        (tmp_path / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(photo(96, 112 + 16 * number, number)).save(tmp_path / name / f"{number}.png")
    shutil.copy(ROOT / "tests" / "data" / "coffee.png", tmp_path / "img.png")
    (tmp_path / "runs" / "default").mkdir(parents=True)
    (tmp_path / "runs" / "default" / "model.safetensors").symlink_to(shipped())
    return tmp_path


@pytest.mark.parametrize(("page", "command"), commands())
def test_every_command_of_the_pages_runs(page: str, command: str, photos: Path, cli: Cli) -> None:
    if any(command.startswith(start) for start in NOT_RUN):
        return
    program, verb, *arguments = shlex.split(command)
    assert program == "attncodec", command
    if page == "extending.md" and verb == "train":
        return  # the part that it names is there once its patch is; the patch brings a test
    if verb == "train":
        shutil.rmtree(photos / "runs")
        arguments += ["--dry-run"] if "train.init=shipped" in arguments else []
        arguments += QUICK[: 4 if "train.init=shipped" in arguments else len(QUICK)]
    if verb in ("decompress", "info"):
        assert cli("compress", "img.png", cwd=photos).returncode == 0
        assert cli("compress", "photos/", "-o", "small/", cwd=photos).returncode == 0
    result = cli(verb, *arguments, cwd=photos)
    assert result.returncode == 0, result.stderr.decode()


def test_what_is_not_run_is_still_on_a_page() -> None:
    shown = [str(parameters.values[1]) for parameters in commands()]
    assert all(any(command.startswith(start) for command in shown) for start in NOT_RUN)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_every_python_example_runs(page: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    names: dict[str, Any] = {}
    for example in blocks(page, "python"):
        exec(example.replace('"train.budget=200"', ", ".join(f'"{override}"' for override in QUICK)), names)
    assert "codec" in names


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=lambda page: page.stem)
def test_every_configuration_on_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert load_config(path) != Config()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_are_those_of_the_files(page: Path) -> None:
    assert filled(page.read_text()) == page.read_text(), "run scripts/fill_pages.py"


def test_every_result_is_on_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    missing = [path.name for path in (ROOT / "results").iterdir() if f"results/{path.name}" not in text]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


PATCHES = blocks(ROOT / "docs" / "extending.md", "diff")


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: re.findall(r"\+\+\+ b/attncodec/(\S+)", patch)[-1])
def test_a_part_is_one_file_one_entry_and_one_test(patch: str, tmp_path: Path) -> None:
    new = re.findall(r"--- /dev/null\n\+\+\+ b/(\S+)", patch)
    changed = re.findall(r"--- a/(\S+)", patch)
    added = [line for line in patch.split("--- /dev/null")[0].splitlines() if re.match(r"\+[^+]", line)]
    test = next(name for name in new if name.startswith("tests/"))
    assert len(new) == 2 and len(changed) == 1
    assert len([line for line in added if "import" not in line]) == 1
    for folder in ("attncodec", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "weights", "data")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch, text=True, check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test, "tests/test_layers.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stdout


def test_there_is_a_patch_for_each_kind_of_part() -> None:
    registries = ("networks/attention", "coding_order", "optimisers", "metrics", "classic")
    assert len(PATCHES) == 5 and all(any(name in patch for patch in PATCHES) for name in registries)
