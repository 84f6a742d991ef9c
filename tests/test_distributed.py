from datetime import timedelta

import pytest
import torch
from torch.distributed import TCPStore

from attncodec import distributed
from attncodec.distributed import SINGLE_PROCESS, Distributed, is_first_to_say, process_group_of_torchrun


def test_a_single_process_does_everything() -> None:
    assert SINGLE_PROCESS.is_rank0 and list(SINGLE_PROCESS.shard([1, 2, 3])) == [1, 2, 3]
    assert SINGLE_PROCESS.run_on_rank0(lambda: 7) == 7 and SINGLE_PROCESS.broadcast_floats(1, 2.5) == (1, 2.5)
    assert SINGLE_PROCESS.any(True) and not SINGLE_PROCESS.any(False) and SINGLE_PROCESS.sum(3) == 3
    assert SINGLE_PROCESS.gather([1, 2]) == [1, 2] and torch.equal(
        SINGLE_PROCESS.all_reduce_sum(torch.ones(2)), torch.ones(2)
    )


def test_shares_are_disjoint_and_whole() -> None:
    shares = [Distributed(rank=rank, size=3).shard(range(8)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "4"},
        {"WORLD_SIZE": "four", "RANK": "1"},
        {"WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "1"},
        {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"},
        {"TORCHELASTIC_RUN_ID": "left in a script"},
    ],
)
def test_what_a_scheduler_sets_without_torchrun_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with process_group_of_torchrun() as found:
        assert found is SINGLE_PROCESS


def test_of_equal_errors_only_the_first_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    environment = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port)}
    for name, value in {**environment, "TORCHELASTIC_RUN_ID": "here", "GROUP_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert [is_first_to_say(text) for text in ("a", "b", "a", "a")] == [True, True, False, False]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert is_first_to_say("a")


def test_what_nobody_else_can_say_any_more_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "SAYING", timedelta(milliseconds=1))
    environment = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in {**environment, "TORCHELASTIC_RUN_ID": "here"}.items():
        monkeypatch.setenv(name, value)
    assert is_first_to_say("a")
