"""How much memory pictures may take."""

from pathlib import Path

import pytest
import torch
from conftest import photo
from test_data import crops_of, kept

from attncodec.config import DataConfig
from attncodec.errors import ConfigError
from attncodec.training import memory
from attncodec.training.memory import MemoryBudget, available_bytes


def test_memory_is_taken_up_to_the_stated_share(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**20 < available_bytes() < 2**50
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    room = MemoryBudget.of(DataConfig(memory_share=0.3))
    assert room.take(200) and not room.take(101) and room.take(100)
    assert not MemoryBudget.of(DataConfig(cache="none")).take(1) and MemoryBudget.of(DataConfig(cache="ram")).take(
        2**60
    )


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("123456\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "none")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert available_bytes() == 123456
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes() > 123456


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/slice/job", "slice/job/memory.max"),
        ("0::/slice/job", "slice/memory.max"),
        ("4:memory:/slice/job", "memory/slice/memory.limit_in_bytes"),
    ],
)
def test_the_limits_of_all_groups_around_a_job_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, file: str
) -> None:
    (tmp_path / "cgroup").write_text(f"9:cpu,cpuacct:/slice/job\n{line}\n")
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("123456\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    assert available_bytes() == 123456


def test_pictures_are_kept_on_a_gpu_only_where_there_is_one() -> None:
    with pytest.raises(ConfigError, match="on a GPU"):
        crops_of([kept("x", photo(80, 80))], cache="device")


def test_pictures_on_a_gpu_leave_memory_for_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """This also holds if all pictures are to be on the GPU: if it has room for ten, eight are put there."""
    rgb = photo(64, 64)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * rgb.nbytes, 10 * rgb.nbytes))
    crops = crops_of([kept(str(number), rgb) for number in range(12)], batch=1)
    crops.device = torch.device("cuda")
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *device: tensor)
    for cache, most in (("device", 8), ("auto", 5)):
        data = crops.config.data.model_copy(update={"cache": cache})
        crops.config = crops.config.model_copy(update={"data": data})
        crops.gpu_room = crops._gpu_room()
        crops.on_gpu.clear()
        for number in range(12):
            crops._onto_gpu(number)
        assert len(crops.on_gpu) == most
