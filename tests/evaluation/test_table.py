"""Tables of results.json, here those of the shipped model on Kodak."""

import json

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
