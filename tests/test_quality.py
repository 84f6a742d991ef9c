import numpy as np
import pytest
import torch

from attncodec.quality import (
    draw_index,
    index_at_share,
    index_of_level,
    index_of_quality,
    interpolate,
    nearest_level,
    quality_indices,
    quality_of_index,
    rd_lambda_at,
    split,
)


def test_a_quality_index_is_64_times_the_quality() -> None:
    assert [index_of_quality(quality) for quality in (1, 1.5, 8, 4.49)] == [64, 96, 512, 287]
    assert [quality_of_index(index) for index in (64, 96, 65)] == [1, 1.5, 1.015625]
    assert index_of_level(3) == 192 and list(quality_indices(2)) == list(range(64, 129))


def test_what_is_not_finite_is_an_index_that_no_model_has() -> None:
    for quality in (float("nan"), float("inf"), -float("inf")):
        assert index_of_quality(quality) == 0 and index_of_quality(quality) not in quality_indices(64)


def test_ints_and_tensors_are_split_alike() -> None:
    indices = list(quality_indices(3))
    low, part = split(torch.tensor(indices))
    assert [split(index) for index in indices] == list(zip(low.tolist(), part.tolist(), strict=True))
    assert split(64) == (0, 0) and split(127) == (0, 63) and split(128) == (1, 0)
    assert nearest_level(torch.tensor(indices)).tolist() == [nearest_level(index) for index in indices]


def test_of_two_levels_that_are_equally_near_the_higher_one_is_the_nearest() -> None:
    assert [nearest_level(index) for index in (64, 95, 96, 128, 159, 160)] == [0, 0, 1, 1, 1, 2]


def test_rows_are_interpolated_linearly_and_integers_rounded_down() -> None:
    table = torch.tensor([[0.0, 10.0], [64.0, -10.0]])
    assert interpolate(table, torch.tensor([64, 65, 96, 128])).tolist() == [[0, 10], [1, 9.6875], [32, 0], [64, -10]]
    assert interpolate(table.long(), torch.tensor([65, 97])).tolist() == [[1, 9], [33, -1]]


def test_lambda_is_geometric_between_two_levels() -> None:
    lambdas = (0.01, 0.04, 0.64)
    assert [rd_lambda_at(lambdas, index) for index in (64, 96, 128, 160)] == pytest.approx([0.01, 0.02, 0.04, 0.16])


def test_an_index_beyond_the_levels_takes_the_nearest_row() -> None:
    table = torch.tensor([[1.0], [3.0], [9.0]])
    assert interpolate(table, torch.tensor([0, 256, 1024])).flatten().tolist() == [1, 9, 9]


def test_levels_of_integers_are_integers() -> None:
    assert isinstance(nearest_level(96), int) and nearest_level(96) == 1


def test_all_levels_are_drawn_equally_often() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_index(rng, 4) for _ in range(40_000)]
    assert min(drawn) == 64 and max(drawn) == 256
    shares = np.bincount([nearest_level(index) for index in drawn]) / len(drawn)
    assert np.allclose(shares, 0.25, atol=0.01)


def test_a_share_of_the_way_is_an_index() -> None:
    assert [index_at_share(share, 8) for share in (0, 3 / 7, 1)] == [64, 256, 512] and index_at_share(0.5, 1) == 64


def test_a_quality_beyond_all_numbers_has_the_index_that_no_model_has() -> None:
    assert [index_of_quality(quality) for quality in (float("nan"), float("inf"), 1e308, -1e308)] == [0, 0, 0, 0]
