import torch

from attncodec.team import ALONE, Team


def test_a_team_of_one_does_everything() -> None:
    assert ALONE.leads and list(ALONE.share([1, 2, 3])) == [1, 2, 3]
    assert ALONE.from_lead(lambda: 7) == 7 and ALONE.lead_says(1, 2.5) == (1, 2.5)
    assert ALONE.any(True) and not ALONE.any(False) and ALONE.sum(3) == 3
    assert ALONE.gather([1, 2]) == [1, 2] and torch.equal(ALONE.total(torch.ones(2)), torch.ones(2))


def test_shares_are_disjoint_and_whole() -> None:
    shares = [Team(rank=rank, size=3).share(range(8)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
