import pytest
import torch
from torch.distributed import HashStore

from attncodec.distributed import SINGLE_PROCESS, Distributed, _is_first_to_say, process_group_of_torchrun


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
    ],
)
def test_what_a_scheduler_sets_without_torchrun_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with process_group_of_torchrun() as distributed:
        assert distributed is SINGLE_PROCESS


def test_of_equal_errors_only_the_first_is_said() -> None:
    store = HashStore()
    assert [_is_first_to_say(store, text) for text in ("a", "b", "a", "a")] == [True, True, False, False]
