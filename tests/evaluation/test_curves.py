from collections.abc import Iterable
from typing import Any

import pytest

from attncodec.evaluation.curves import Records, compare, upper
from attncodec.evaluation.records import Record

MISSING: Any = None


def record(codec: str, quality: float, name: str, rate_bpp: float, psnr_db: float | None, variant: str = "") -> Record:
    figures = {"psnr_db": psnr_db, "psnr_yuv_db": 30.0, "ms_ssim": MISSING}
    return Record(codec, quality, name, 8, 8, 1, rate_bpp, None, figures, 1.0, 2.0, 100.0 * quality, variant)


def curve_of(codec: str, factor: float, names: Iterable[str] = ("a", "b")) -> list[Record]:
    """Return four qualities at a factor of the rate of the reference; the second picture costs twice as much."""
    return [
        record(codec, quality, name, factor * 0.1 * 2**quality * (1 + number), 28.0 + 2 * quality)
        for quality in range(1, 5)
        for number, name in enumerate(names)
    ]


def test_bd_rates_are_of_the_mean_curve_and_of_each_picture() -> None:
    ours = curve_of("ours", 0.5)
    ours[-1] = record("ours", 4, "b", 0.9 * 0.1 * 2**4 * 2, 36.0)  # the second picture is worse at the highest rate
    found = compare(Records([*ours, *curve_of("jpeg", 1.0)]), {}, "psnr_db")
    (pair,) = (pair for pair in found["bd"] if (pair["reference"], pair["codec"]) == ("jpeg", "ours"))
    assert pair["bd_rate_percent"] < -30 and pair["range_db"] == [30, 36] and pair["reason"] is None
    assert pair["bd_psnr_db"] > 1 and pair["range_bpp"][0] == pytest.approx(0.3)
    pictures = pair["per_picture"]
    assert pictures["bd_rate_percent"]["a"] == pytest.approx(-50) and pictures["worst_picture"] == "b"
    assert pictures["worst_percent"] == pictures["bd_rate_percent"]["b"] > -50
    assert pictures["median_percent"] == pytest.approx(sum(pictures["bd_rate_percent"].values()) / 2)


def test_a_picture_without_a_figure_in_one_file_is_left_out_of_the_means_of_all_codecs() -> None:
    records = [*curve_of("ours", 0.5), *curve_of("jpeg", 1.0)]
    records[-1] = record("jpeg", 4, "b", 3.2, None)  # it is lossless there
    found = Records(records)
    for codec, rate in (("ours", 0.1), ("jpeg", 0.2)):
        point = found.points(codec)[0]
        assert point["pictures"] == 2 and point["bpp"] == pytest.approx(1.5 * rate)  # every file counts for the rate
        assert point["psnr_db"] == 30 and point["ms_ssim"] is None and point["ms_ssim_db"] is None
    axis = compare(found, {}, "psnr_db")
    assert (axis["pictures"], axis["left_out"]) == (1, ["b"])
    assert axis["curves"]["ours"][0] == {"bpp": pytest.approx(0.1), "psnr_db": 30}
    assert compare(found, {}, "ms_ssim_db")["pictures"] == 0


def test_a_codec_that_cannot_write_a_picture_leaves_it_out_for_all() -> None:
    records = [*curve_of("ours", 0.5), *curve_of("jpeg", 1.0, ["a"])]
    assert Records(records).points("ours")[0]["pictures"] == 1
    assert Records(records).common().left_out == ["b"]


def test_published_curves_are_compared_by_their_means_alone() -> None:
    published = {"published/vtm": [(0.1 * 2**n, 27.0 + 2 * n) for n in range(6)]}
    found = compare(Records(curve_of("ours", 1.0)), published, "psnr_db")
    assert [(pair["reference"], pair["codec"]) for pair in found["bd"]] == [
        ("ours", "published/vtm"),
        ("published/vtm", "ours"),
    ]
    assert all("per_picture" not in pair for pair in found["bd"])


def test_the_better_of_two_variants_counts_at_each_rate() -> None:
    low, high = [(0.1, 28.0), (0.4, 31.0), (1.6, 33.0)], [(0.2, 28.5), (0.8, 32.4), (3.2, 37.0)]
    assert upper([low, high]) == [(0.1, 28.0), (0.4, 31.0), (0.8, 32.4), (3.2, 37.0)]
    assert upper([low]) == low and upper([]) == []


def test_seconds_are_means_and_memory_is_the_highest() -> None:
    point = Records(curve_of("ours", 1.0)).points("ours")[1]
    assert (point["encode_s"], point["decode_s"], point["peak_mib"]) == (1.0, 2.0, 200.0)
