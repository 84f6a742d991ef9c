import pytest
import torch

from attncodec.networks.noise import STREAM_BITS, uniform

# These are the first numbers of SplitMix64 for this seed, as published.
FIRST_OF_1234567 = (6457827717110365317, 3203168211198807973, 9817491932198370423)


def test_numbers_are_those_of_splitmix64() -> None:
    found = uniform(torch.tensor([1234567]), 0, (3,))
    assert found.tolist() == [[(number >> 40) / 2**24 for number in FIRST_OF_1234567]]


def test_a_row_depends_on_its_seed_and_its_stream_alone() -> None:
    seeds = torch.tensor([3, 2**62, 7])
    rows = uniform(seeds, 2, (4, 5))
    assert rows.shape == (3, 4, 5) and torch.equal(uniform(seeds[1:2], 2, (4, 5))[0], rows[1])
    assert torch.equal(uniform(seeds, 2, (20,)), rows.flatten(1))
    others = [uniform(seeds, stream, (4, 5)) for stream in (1, 3)]
    assert not any(torch.equal(rows[i], other[i]) for other in others for i in range(3))


def test_a_stream_begins_2_to_the_40_numbers_after_the_one_before() -> None:
    gamma = 0x9E3779B97F4A7C15
    shifted = (5 + (gamma << STREAM_BITS)) % 2**64  # stream 1 of seed 5 begins here
    seed = shifted - 2**64 if shifted >= 2**63 else shifted
    assert torch.equal(uniform(torch.tensor([seed]), 0, (9,)), uniform(torch.tensor([5]), 1, (9,)))


def test_noise_is_even_and_uncorrelated() -> None:
    values = uniform(torch.arange(8), 1, (64, 32, 32)).double()
    assert float(values.min()) >= 0 and float(values.max()) < 1
    assert float(values.mean()) == pytest.approx(0.5, abs=1e-3)
    assert float(values.var()) == pytest.approx(1 / 12, rel=5e-3)
    counts = torch.histc(values, 64, 0, 1) / values.numel() * 64
    assert float((counts - 1).abs().max()) < 0.03
    rows = values.flatten(1) - 0.5
    assert float((torch.corrcoef(rows) - torch.eye(8)).abs().max()) < 0.02
    assert abs(float((rows[:, 1:] * rows[:, :-1]).mean() * 12)) < 0.01
