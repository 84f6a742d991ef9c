"""Seeded pictures and a tiny sealed codec: random weights, so that every path matters, but cheap."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from attncodec.cli import main
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.sealing import seal
from attncodec.config import AttentionConfig, Config, DataConfig, ModelConfig, TrainConfig
from attncodec.config_file import dump_yaml
from attncodec.networks.context import ContextModel
from attncodec.networks.hyperprior import HyperpriorCodec, build_codec
from attncodec.networks.priors import LearnedPrior, SideInfo
from attncodec.pictures import to_tensor

# A shell without job control starts what runs in the background with SIGINT ignored, and tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

Result = subprocess.CompletedProcess[bytes]
Cli = Callable[..., Result]
ROOT = Path(__file__).parent.parent
KODAK = ROOT.parent / "shared" / "kodak"

TINY = ModelConfig(
    latent_channels=24,
    hyper_channels=16,
    widths=(0, 16, 24),
    analysis_blocks=(0, 1, 1),
    synthesis_blocks=(0, 1, 1),
    attention=AttentionConfig(strides=(8, 16)),
    context_width=32,
    rd_lambdas=(0.0018, 0.0130, 0.0932),
)


def photo(height: int, width: int, seed: int = 0) -> NDArray[Any]:
    """Return a picture of smooth shapes, edges and a little noise, as in photographs, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 64
    planes = []
    for _ in range(3):
        a, b, c, d = rng.uniform(0.3, 2, 4)
        plane = 0.5 + 0.3 * np.sin(a * x + b * y) * np.cos(c * y) + 0.2 * ((x * d + y) % 2 > 1)
        planes.append(plane + rng.normal(0, 0.02, plane.shape))
    return (np.stack(planes, axis=2) * 255).round().clip(0, 255).astype(np.uint8)


def make_codec(config: ModelConfig = TINY, seed: int = 0) -> HyperpriorCodec:
    """Initialise a codec on a picture, then shake its weights, so that no path is zero."""
    torch.manual_seed(seed)
    codec = build_codec(config)
    codec.initialise(to_tensor(photo(128, 192)))
    assert isinstance(codec.prior, ContextModel)
    with torch.no_grad():
        heads = [step[-1] for step in codec.prior.networks.steps]
        for module in (codec.analysis.head, codec.synthesis.head, *heads):
            for parameter in module.parameters():
                parameter.normal_(0, 0.02)
        codec.prior.quality_bias.normal_(0, 0.1)
        for name, parameter in codec.named_parameters():
            if name.endswith("alpha"):
                parameter.fill_(0.5)
            elif name.endswith("project.weight"):
                parameter.normal_(0, 0.1)
        codec.hyper_analysis.network[-1][-1].weight.mul_(8)
        codec.log2_gain_z.normal_(0, 0.5)
    return codec


CROPS = torch.cat([to_tensor(photo(128, 128, seed)) for seed in range(10, 22)])  # tests measure tables on these


def side_of(z: torch.Tensor) -> SideInfo:
    """Return side information with a gain of one, on the first level."""
    return SideInfo(tuple(z.shape), torch.zeros(1, z.shape[1], 1, 1), torch.zeros(len(z), dtype=torch.int64))


@pytest.fixture(scope="session")
def learned() -> LearnedPrior:
    torch.manual_seed(1)
    prior = LearnedPrior(8)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return prior


@pytest.fixture(scope="session")
def codec() -> HyperpriorCodec:
    return make_codec()


@pytest.fixture(scope="session")
def sealed(codec: HyperpriorCodec) -> SealedCodec:
    return seal(codec, {"steps": 0})


@pytest.fixture(scope="session")
def five_levels() -> SealedCodec:
    """Return a sealed codec with five quality levels."""
    return seal(make_codec(TINY.model_copy(update={"rd_lambdas": (0.0018, 0.005, 0.0130, 0.035, 0.0932)})), {})


@pytest.fixture(scope="session")
def model_file(sealed: SealedCodec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    sealed.save(path)
    return path


@pytest.fixture(autouse=True)
def _messages_as_they_were() -> Iterator[None]:
    """Restore the logger, because the command line shows messages of attncodec and the next test begins without."""
    logger = logging.getLogger("attncodec")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep figures of classic codecs among the files of this run, and not in the cache of whoever runs it."""
    monkeypatch.setenv("ATTNCODEC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with a photograph in it."""
    Image.fromarray(photo(70, 50)).save(tmp_path / "img.png")
    return tmp_path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder of four pictures, one of them in a folder of its own."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.webp", "c.png", "more/d.png"]):
        Image.fromarray(photo(96 + 16 * number, 160, number)).save(folder / name, lossless=name.endswith("webp"))
    return folder


@pytest.fixture
def quick_config(pictures: Path) -> Config:
    """Return the configuration of a run of a second or two."""
    return Config(
        model=TINY,
        data=DataConfig(train=str(pictures), crop=64, held_out=0.25),
        train=TrainConfig(budget="6", batch=2, warmup=1, validations=2, validation_share=1),
    )


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return a function that runs the command line in this process and returns its output and its exit code."""

    def run(*arguments: Any, cwd: Path) -> Result:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["attncodec", *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        stdout, stderr = capfdbinary.readouterr()
        return Result(arguments, int(caught.value.code or 0), stdout, stderr)

    return run


def attncodec(*arguments: Any, cwd: Path, stdin: bytes = b"") -> Result:
    """Run the command line in a process of its own, as a user does."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "attncodec", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, env=environment, timeout=200)


def assert_refused(result: Result, *words: str, code: int = 2) -> None:
    """Assert that stderr has these words, one `error:` line, one `hint:` line and no traceback."""
    stderr = result.stderr.decode()
    assert result.returncode == code, stderr
    assert "Traceback" not in stderr
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    hints = [line for line in stderr.splitlines() if line.startswith("hint: ")]
    assert len(errors) == len(hints) == 1, stderr
    for word in words:
        assert word in stderr


def write_config(place: Path, pictures: Path, budget: str) -> Path:
    """Write the configuration file of a tiny codec that trains on `pictures`, and return its path."""
    path = place / "tiny.yaml"
    data = f"data: {{train: {pictures}, crop: 64}}\ntrain: {{budget: {budget}, batch: 2}}\n"
    model = "\n".join("  " + line for line in dump_yaml(TINY).splitlines())
    path.write_text(f"model:\n{model}\n{data}")
    return path
