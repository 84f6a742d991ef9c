"""Tables of results.json, here those of the shipped model on Kodak."""

import copy
import json
from typing import Any

import pytest
from conftest import ROOT

from attncodec.evaluation import table

RESULTS = json.loads((ROOT / "results" / "shipped" / "kodak" / "results.json").read_text())


def test_the_terminal_shows_a_row_a_quality_and_the_bd_rates_that_plots_draw() -> None:
    text = table.text(RESULTS)
    rows = [line for line in text.splitlines() if line.startswith("default ")]
    assert len([row for row in rows if row.split()[1].isdigit()]) == 8
    assert text.count(", published") == 3 and "VTM" in text
    assert text.splitlines()[-1] == "table.md has the BD-rates against 20 more published curves."


def test_the_file_has_all_codecs_and_all_bd_rates() -> None:
    text = table.markdown(RESULTS)
    measured = ["default", *RESULTS["classic"]]
    assert all(f"| {codec} | {title}, published |" in text for codec in measured for title in titles())
    assert len([line for line in text.splitlines() if line.startswith("| jpeg | 75 ")]) == 2


def titles() -> list[str]:
    return [about["title"] for about in RESULTS["published"].values()]


@pytest.fixture
def results() -> Any:
    """Return a copy of the results to change. The PSNR of the model is 31.33 dB at its third quality."""
    return copy.deepcopy(RESULTS)


def test_a_model_with_few_points_has_a_line_that_says_so_and_what_others_reach_at_its_rates(results: Any) -> None:
    for axis in results["axes"].values():
        axis["curves"]["default"] = axis["curves"]["default"][2:3]
    for text in (table.text(results), table.markdown(results)):
        reason, psnr, *_ = [line for line in text.splitlines() if "4 are needed" in line or " bpp: " in line]
        assert reason == "default: the curve has 1 point (PSNR, PSNR-YUV, MS-SSIM), and 4 are needed for a BD-rate."
        assert psnr.startswith("PSNR at 0.3376 bpp: default 31.33 dB; jpeg 27.70 dB; webp 29.74 dB; avif 31.18 dB")
        assert text.count("4 are needed") == 1
    compared = [line for line in table.markdown(results).splitlines() if " % |" in line]
    assert "kodim" not in table.text(results) and compared and not any("default" in line for line in compared)


def test_a_short_curve_of_one_quality_is_named_with_it(results: Any) -> None:
    axis = results["axes"]["ms_ssim_db"]
    axis["curves"]["jpeg"] = axis["curves"]["jpeg"][:2]
    text = table.text(results)
    assert "jpeg: the curve has 2 points (MS-SSIM), and 4 are needed for a BD-rate." in text
    rows = [line for line in text.splitlines() if line.startswith("default  jpeg ")]
    assert len(rows) == 2 and not any("MS-SSIM" in row for row in rows)


def test_median_and_worst_say_of_how_many_pictures_they_are_if_not_of_all(results: Any) -> None:
    assert ", of " not in table.text(results)
    pair = next(
        pair for pair in results["axes"]["psnr_db"]["bd"] if (pair["codec"], pair["reference"]) == ("default", "jpeg")
    )
    pair["per_picture"]["pictures"] = 5
    assert table.text(results).count("-53.7 %, of 5") == 1
    assert "| -53.7 %, of 5 | -39.2 %, kodim13.png, of 5 |" in table.markdown(results)


def test_partial_results_say_how_many_pictures_are_measured_and_do_not_name_those_to_come(results: Any) -> None:
    results["partial"], results["means"] = True, {"pictures": 3, "asked": 24, "left_out": ["a.png", "b.png"]}
    text = table.markdown(results)
    assert "Partial: the evaluation was interrupted when 3 of 24 pictures were measured." in text
    assert "Left out" not in text and "a.png" not in text


def test_names_are_escaped_where_they_would_break_a_line_or_a_cell(results: Any) -> None:
    name, shown = "a|b\n\x1b[1m\u202e\a", "a|b\\n\\x1b[1m\\u202e\\x07"
    made = json.loads(
        json.dumps(results).replace('"default"', json.dumps(name)).replace('"kodim13.png"', json.dumps(name))
    )
    made["means"]["left_out"] = [name]
    for text, in_cell in (
        (table.text(made), shown),
        (table.text(made, True), shown),
        (table.markdown(made), shown.replace("|", "\\|")),
    ):
        assert all(line.isprintable() for line in text.splitlines())
        assert f"{shown}: model" in text and in_cell in text and f"no file of them: {shown}." in text
    table_rows = [line for line in table.markdown(made).splitlines() if line.startswith("| ") and "%" in line]
    assert {row.replace("\\|", "").count("|") for row in table_rows} == {9}
