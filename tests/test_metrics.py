from typing import Any

import numpy as np
import pytest
import torch
from conftest import photo

from attncodec.errors import ConfigError
from attncodec.metrics import METRICS, Metric, figures
from attncodec.metrics.ms_ssim import ms_ssim, ms_ssim_to_db
from attncodec.metrics.psnr import psnr_db, psnr_for_means_db, psnr_yuv_db
from attncodec.metrics.rate import bd_quality, bd_rate, bd_rate_percent, bpp, rising
from attncodec.metrics.rd_loss import level_weight, rd_loss


def test_psnr_of_a_difference_of_one_is_48_13_db() -> None:
    rgb = photo(20, 30).clip(0, 254)
    assert psnr_db(rgb, (rgb + 1).astype(np.uint8)) == pytest.approx(48.1308, abs=1e-4)


def test_equal_pictures_have_no_psnr() -> None:
    assert psnr_db(photo(9, 9), photo(9, 9)) is None


def test_psnr_agrees_with_scikit_image() -> None:
    skimage = pytest.importorskip("skimage.metrics")
    a, b = photo(33, 21, 1), photo(33, 21, 2)
    assert psnr_db(a, b) == pytest.approx(skimage.peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)


def test_psnr_agrees_with_numpy_in_float64() -> None:
    a, b = photo(133, 70, 1), photo(133, 70, 2)
    mse = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    assert psnr_db(a, b) == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-6)


def test_psnr_yuv_is_that_of_planes_of_bt_709_weighed_6_1_1() -> None:
    a, b = photo(133, 70, 1), photo(133, 70, 2)
    planes = []
    for rgb in (a.astype(np.float64), b.astype(np.float64)):
        y = rgb @ (0.2126, 0.7152, 0.0722)
        planes.append((y, (rgb[..., 2] - y) / 1.8556, (rgb[..., 0] - y) / 1.5748))
    y_db, cb_db, cr_db = (10 * np.log10(255**2 / np.mean((p - q) ** 2)) for p, q in zip(*planes, strict=True))
    assert psnr_yuv_db(a, b) == pytest.approx((6 * y_db + cb_db + cr_db) / 8, abs=1e-6)


def test_grey_pictures_have_no_psnr_yuv_because_their_colours_are_equal() -> None:
    a, b = (np.repeat(photo(20, 20, seed)[..., :1], 3, axis=2) for seed in (1, 2))
    assert psnr_db(a, b) is not None and psnr_yuv_db(a, b) is None


def test_ms_ssim_is_that_of_its_package_and_0_9_is_10_db() -> None:
    reference = pytest.importorskip("pytorch_msssim")
    a, b = photo(170, 180, 1), photo(170, 180, 2)
    x, y = (torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None] for rgb in (a, b))
    assert ms_ssim(a, b) == pytest.approx(float(reference.ms_ssim(x, y, data_range=255)), abs=1e-5)
    assert ms_ssim_to_db(0.9) == pytest.approx(10) and ms_ssim_to_db(1.0) is None


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
    assert result.rate_bpp.tolist() == pytest.approx([1.0, 3.0])
    assert result.mse_255.tolist() == pytest.approx([650.25, 650.25], rel=1e-5)
    assert float(result.loss) == pytest.approx(2 + 0.0130 * 650.25, rel=1e-5)


def test_with_ms_ssim_the_loss_is_that_of_compressai_at_its_lambdas() -> None:
    x = torch.from_numpy(photo(192, 192)).permute(2, 0, 1)[None] / 255
    x_hat = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    similarity = ms_ssim(photo(192, 192), (x_hat[0].permute(1, 2, 0) * 255).round().byte().numpy())
    one = torch.full((1,), 0.0130)
    assert similarity is not None
    # CompressAI's loss is bpp + 16.64 * (1 - MS-SSIM) at the level whose lambda for MSE is 0.0130
    loss = float(rd_loss(x, x_hat, torch.zeros(1), one, ms_ssim_share=1.0).loss)
    assert loss == pytest.approx(16.64 * (1 - similarity), rel=0.01)
    mse_loss = float(rd_loss(x, x_hat, torch.zeros(1), one).loss)
    mixed = float(rd_loss(x, x_hat, torch.zeros(1), one, ms_ssim_share=0.25).loss)
    assert mixed == pytest.approx(0.75 * mse_loss + 0.25 * loss, rel=1e-5)


def test_levels_count_by_the_root_of_their_lambda() -> None:
    weights = level_weight(torch.tensor([0.0130, 0.0130 * 4, 0.0130 / 16]))
    assert weights.tolist() == pytest.approx([1, 0.5, 4])


def test_bd_rate_of_a_curve_with_a_tenth_less_rate_is_minus_ten_percent() -> None:
    curve = [(0.2, 28.0), (0.5, 31.0), (0.9, 33.5), (1.6, 36.0)]
    assert bd_rate(curve, [(0.9 * rate, quality) for rate, quality in curve]) == pytest.approx(-10)
    assert bd_rate(curve, curve) == pytest.approx(0)


def test_bd_rate_looks_only_at_the_psnr_that_both_curves_have() -> None:
    curve = [(2 ** ((quality - 30) / 6), quality) for quality in (28.0, 30.0, 32.0, 34.0, 36.0)]
    shifted = [(1.2 * rate, quality) for rate, quality in curve[2:]]
    assert bd_rate(curve, shifted) == pytest.approx(20, abs=0.01)
    assert bd_rate(curve[:2], curve[2:]) is None


def test_bd_rate_agrees_with_the_reference_software() -> None:
    """The expected value comes from the `bjontegaard` package, method pchip."""
    reference = [(0.11, 27.1), (0.24, 29.6), (0.52, 32.4), (0.98, 35.2)]
    assert bd_rate(reference, [(0.1, 27.4), (0.23, 30.2), (0.5, 32.8), (1.05, 35.9)]) == pytest.approx(
        -15.7297, abs=1e-3
    )


def test_bd_rate_and_bd_psnr_agree_with_the_package_bjontegaard() -> None:
    package = pytest.importorskip("bjontegaard")
    reference = [(0.11, 27.1), (0.24, 29.6), (0.52, 32.4), (0.98, 35.2), (2.0, 38.0)]
    curve = [(0.1, 27.4), (0.23, 30.2), (0.5, 32.8), (1.05, 35.9)]
    options = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    arguments = (*zip(*reference, strict=True), *zip(*curve, strict=True))
    assert bd_rate_percent(reference, curve).value == pytest.approx(package.bd_rate(*arguments, **options), abs=0.01)
    assert bd_quality(reference, curve).value == pytest.approx(package.bd_psnr(*arguments, **options), abs=0.01)


def test_bd_psnr_of_a_curve_half_a_decibel_higher_is_half_a_decibel() -> None:
    curve = [(0.2, 28.0), (0.5, 31.0), (0.9, 33.5), (1.6, 36.0)]
    found = bd_quality(curve, [(rate, quality + 0.5) for rate, quality in curve])
    assert found.value == pytest.approx(0.5) and (found.low, found.high) == pytest.approx((0.2, 1.6))


def test_there_is_no_bd_rate_of_three_points_or_of_a_fifth_of_the_range_and_the_reason_is_given() -> None:
    curve = [(0.1 * 2**number, 28.0 + 2 * number) for number in range(6)]
    assert bd_rate_percent(curve, curve[:3]).reason == "the curve has 3 points, and 4 are needed"
    assert bd_rate_percent(curve[:1], curve).reason == "the reference has 1 point, and 4 are needed"
    higher = [(rate, quality + 8.0) for rate, quality in curve]
    found = bd_rate_percent(curve, higher)
    assert found.value is None and found.reason == "20% of the range is shared, and 25% is needed"
    assert bd_rate_percent(curve, curve).value == pytest.approx(0)


def test_points_that_another_beats_do_not_count() -> None:
    assert rising([(0.5, 31.0), (0.2, 28.0), (0.6, 30.0), (0.2, 27.0)]) == [(0.2, 28.0), (0.5, 31.0)]


def test_for_means_equal_pictures_count_as_99_db_and_opposite_ones_as_0() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    assert psnr_for_means_db(black, black) == 99 and psnr_for_means_db(black, ~black) == 0


def test_figures_have_a_float_or_none_for_each_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    half: Any = np.float32(0.5)
    monkeypatch.setitem(METRICS, "half", Metric(lambda a, b: half, "half", ".1f"))
    found = figures(photo(9, 9), photo(9, 9))
    assert (
        found == {"psnr_db": None, "psnr_yuv_db": None, "ms_ssim": None, "half": 0.5} and type(found["half"]) is float
    )


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (float("nan"), "returns nan"),
        (np.float32("inf"), "returns inf"),
        ("30", "returns a str"),
        (torch.zeros(3), "returns a Tensor"),
        (ZeroDivisionError("division\nby zero"), "raises ZeroDivisionError: division by zero"),
    ],
)
def test_a_metric_that_gives_no_finite_number_is_named(monkeypatch: pytest.MonkeyPatch, value: Any, what: str) -> None:
    def measure(a: Any, b: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setitem(METRICS, "sharpness", Metric(measure, "sharpness", ".2f"))
    with pytest.raises(ConfigError, match=f"^the metric 'sharpness' {what}") as caught:
        figures(photo(9, 9), photo(9, 9))
    assert "docs/extending.md" in caught.value.hint


def test_a_metric_with_a_form_that_no_table_can_show_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "sharpness", Metric(lambda a, b: 1.0, "sharpness", "d"))
    with pytest.raises(ConfigError, match=r"^the metric 'sharpness' raises ValueError"):
        figures(photo(9, 9), photo(9, 9))
