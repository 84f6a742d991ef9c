import numpy as np
import pytest
import torch
from conftest import photo

from attncodec.metrics import bpp, level_weight, ms_ssim, psnr_db, rd_loss


def test_psnr_of_a_difference_of_one_is_48_13_db() -> None:
    rgb = photo(20, 30).clip(0, 254)
    assert psnr_db(rgb, rgb + 1) == pytest.approx(48.1308, abs=1e-4)


def test_equal_pictures_have_no_psnr() -> None:
    assert psnr_db(photo(9, 9), photo(9, 9)) is None


def test_psnr_agrees_with_scikit_image() -> None:
    skimage = pytest.importorskip("skimage.metrics")
    a, b = photo(33, 21, 1), photo(33, 21, 2)
    assert psnr_db(a, b) == pytest.approx(skimage.peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)


def test_ms_ssim_needs_161_pixels_a_side_and_is_1_for_equal_pictures() -> None:
    assert ms_ssim(photo(160, 300), photo(160, 300)) is None
    assert ms_ssim(photo(161, 170), photo(161, 170)) == pytest.approx(1.0, abs=1e-6)
    noisy = (photo(161, 170) + np.random.default_rng(0).integers(0, 40, (161, 170, 3))).clip(0, 255).astype(np.uint8)
    assert 0.5 < (ms_ssim(photo(161, 170), noisy) or 0) < 0.99


def test_bpp_counts_every_byte() -> None:
    assert bpp(100, 10, 20) == 4.0


def test_the_loss_is_bpp_plus_lambda_255_squared_mse() -> None:
    x = torch.zeros(2, 3, 8, 16)
    result = rd_loss(x, x + 0.1, torch.tensor([128.0, 384.0]), torch.full((2,), 0.0130))
    assert float(result.rate_bpp) == pytest.approx(2.0)
    assert float(result.mse_255) == pytest.approx(650.25, rel=1e-5)
    assert float(result.loss) == pytest.approx(2 + 0.0130 * 650.25, rel=1e-5)


def test_levels_count_by_the_root_of_their_lambda() -> None:
    weights = level_weight(torch.tensor([0.0130, 0.0130 * 4, 0.0130 / 16]))
    assert weights.tolist() == pytest.approx([1, 0.5, 4])
