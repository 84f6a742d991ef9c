"""What the command line says: info, --quiet, and the help of train."""

import json
import re
from pathlib import Path

from conftest import ROOT, Cli, assert_refused

from attncodec.configs import shipped_configs


def test_info_tells_of_files_and_models(place: Path, cli: Cli, model_file: Path) -> None:
    cli("compress", "img.png", "-m", model_file, cwd=place)
    text = cli("info", "img.atc", cwd=place).stdout.decode()
    assert re.search(r"^width +50$", text, re.MULTILINE) and re.search(r"^format +.atc version 1$", text, re.MULTILINE)
    text = cli("info", model_file, cwd=place).stdout.decode()
    assert "parameters" in text and "config.latent_channels" in text


def test_info_prints_json_and_nothing_else(place: Path, cli: Cli, model_file: Path) -> None:
    cli("compress", "img.png", "-m", model_file, cwd=place)
    found = json.loads(cli("info", "img.atc", "--json", cwd=place).stdout)
    size = (place / "img.atc").stat().st_size
    assert (found["width"], found["height"], found["bytes"]) == (50, 70, size)
    assert found["bpp"] == 8 * size / (50 * 70)
    model = json.loads(cli("info", model_file, "--json", cwd=place).stdout)
    assert model["model"] == found["model"] and model["config"]["latent_channels"] == 24
    assert model["parameters"] == sum(part["parameters"] for part in model["parts"].values())
    shipped_model = json.loads(cli("info", "default", "--json", cwd=place).stdout)
    assert shipped_model["file"].endswith("default.safetensors")
    latents = json.loads(cli("info", "img.atc", "--latents", "-m", model_file, "--json", cwd=place).stdout)
    assert len(latents.pop("latents_sha256")) == 64 and latents == found


def test_every_field_of_the_json_of_info_is_in_the_documentation(place: Path, cli: Cli, model_file: Path) -> None:
    cli("compress", "img.png", "-m", model_file, cwd=place)
    text = (ROOT / "docs" / "command-line.md").read_text()
    for arguments in (["img.atc", "--latents", "-m", model_file], [model_file]):
        for field in json.loads(cli("info", *arguments, "--json", cwd=place).stdout):
            assert f"\n| `{field}` |" in text, field


def test_quiet_leaves_results_and_errors(place: Path, cli: Cli, model_file: Path) -> None:
    loud = cli("compress", "img.png", "-o", "a.atc", cwd=place)
    quiet = cli("--quiet", "compress", "img.png", "-o", "b.atc", cwd=place)
    assert b"model:" in loud.stderr and not quiet.stderr
    assert loud.stdout.replace(b"a.atc", b"b.atc") == quiet.stdout != b""
    assert_refused(cli("--quiet", "compress", "none.png", cwd=place), "none.png")


def test_the_help_of_train_lists_the_shipped_configurations(place: Path, cli: Cli) -> None:
    lines = cli("train", "--help", cwd=place).stdout.decode().splitlines()
    for name, purpose in shipped_configs().items():
        assert any(line.split(maxsplit=1) == [name, purpose] for line in lines), name
