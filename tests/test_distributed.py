import torch

from attncodec.distributed import SINGLE_PROCESS, Distributed


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
