"""The page in a browser: from a file, offline, by mouse, touch and keyboard."""

import io
import math
import re
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import photo
from PIL import Image
from test_page import FIGURES, report

from attncodec.evaluation.page import (
    Axis,
    BdRow,
    Comparison,
    Cost,
    Curve,
    PictureViews,
    Plot,
    Report,
    Version,
    write_page,
)

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
SIZES = {"wide": (1280, 900), "phone": (400, 800)}
SMALL = {"small": (320, 640)}
AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def report_of_training() -> Report:
    """Return a report with curves over many steps, a curve of one point, and values that cannot be drawn."""
    steps = range(20, 200_001, 400)
    loss = [(float(step), 0.8 + 90 / step**0.5 + 0.02 * math.sin(step)) for step in steps]
    validated = [(1000.0, math.nan), (100_000.0, 1.09), (150_000.0, 0.0), (200_000.0, 1.01)]
    jpeg = [(0.1 * 2**point, 26.0 + 2 * point) for point in range(5)]
    return Report(
        "quickstart: a training run",
        ["Written at the end of training."],
        [],
        [
            Plot(
                "PSNR",
                [
                    Curve("run, estimated rate", [(0.3, 29.0)]),
                    Curve("JPEG", jpeg),
                    Curve("VTM, published", jpeg, published=True, drawn=False),
                ],
            ),
            Plot(
                "Loss over steps",
                [Curve("training", loss), Curve("validation", validated)],
                Axis("step", decimals=0),
                Axis("loss", decimals=4, log=True),
            ),
            Plot("Rate over steps", [Curve("training", [(5.0, math.inf)])], Axis("step", decimals=0)),
        ],
    )


LONG = "kodim" * 40


def report_of_long_names() -> Report:
    """Return a report whose names have 200 characters and no space, with a high picture and a wide one."""
    pictures = []
    for height, width in ((300, 1), (1, 300), (96, 128)):
        rgb = photo(height, width)
        versions = [Version(LONG, f"quality {number}", rgb, 1234, FIGURES) for number in range(2)]
        pictures.append(PictureViews(f"{width}-{LONG}", rgb, [Comparison(LONG, versions, [(0, 0, 1)], [LONG])]))
    curve = Curve(LONG, [(0.1 * 2**point, 26.0 + 2 * point) for point in range(5)])
    row = BdRow(LONG, LONG, "PSNR", -31.44, 1.2, -30.0, LONG)
    cost = Cost(LONG, 50.0, 40.0, 2_000_000, 0.5, 0.25, None)
    plots, means = [Plot("PSNR", [curve])], [["codec", "PSNR dB"], [LONG, "29.50"]]
    return Report(LONG, [LONG], pictures, plots, [row], [cost], [LONG], means)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder, pages = (
        tmp_path_factory.mktemp("page"),
        {
            "evaluation": report(),
            "training": report_of_training(),
            "long": report_of_long_names(),
        },
    )
    for name, page in pages.items():
        write_page(page, folder / f"{name}.html")
    return {name: (folder / f"{name}.html").as_uri() for name in pages}


@pytest.fixture
def open_page(browser: Any, urls: dict[str, str]) -> Iterator[Any]:
    """Return a function that opens the page. At the end, no request but for it, and no complaint, has come."""
    complaints, contexts = list[str](), list[Any]()

    def start(size: str = "wide", name: str = "evaluation", **options: Any) -> Any:
        (width, height), url = {**SIZES, **SMALL}[size], urls[name]
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith("data:") else complaints.append(asked.url))
        page.goto(url)
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        complaints.remove(url)
        return page

    yield start
    for context in contexts:
        context.close()
    assert not complaints


def factor(page: Any) -> float:
    return float(page.inner_text("#zoom-value").split()[0])


def middle(page: Any, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def divider(page: Any) -> float:
    return float(page.input_value("#divider"))


def test_the_divider_follows_the_mouse_the_range_and_the_keyboard(open_page: Any) -> None:
    page = open_page()
    page.mouse.move(*middle(page, "#stage"))
    page.mouse.down()
    page.mouse.move(*middle(page, "#stage", 0.25))
    page.mouse.up()
    assert divider(page) == pytest.approx(25, abs=1)
    page.focus("#divider")
    page.keyboard.press("Home")
    assert divider(page) == 0
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    assert divider(page) == 2


def test_the_divider_cuts_the_right_picture_where_it_stands(open_page: Any) -> None:
    page = open_page()
    page.fill("#divider", "50")
    cut = page.eval_on_selector("#image-right", "image => image.style.clipPath")
    assert float(re.findall(r"([\d.]+)px", cut)[-1]) == pytest.approx(64, abs=0.5)  # of 128 pixels


def test_zoom_works_by_buttons_keys_wheel_and_double_click_and_a_drag_then_moves_the_picture(open_page: Any) -> None:
    page = open_page()
    whole = factor(page)
    page.click("#zoom-in")
    assert factor(page) == pytest.approx(1.5 * whole, rel=0.02)
    page.focus("#stage")
    page.keyboard.press("+")
    assert factor(page) == pytest.approx(2.25 * whole, rel=0.02)
    page.keyboard.press("0")
    assert factor(page) == whole
    page.mouse.dblclick(*middle(page, "#stage", 0.75))
    assert factor(page) == pytest.approx(4 * whole, rel=0.02)
    before = page.eval_on_selector("#image-left", "image => image.style.transform")
    page.mouse.move(*middle(page, "#stage", 0.3))
    page.mouse.down()
    page.mouse.move(*middle(page, "#stage", 0.4, 0.6))
    page.mouse.up()
    assert page.eval_on_selector("#image-left", "image => image.style.transform") != before
    page.click("#zoom-fit")
    page.mouse.move(*middle(page, "#stage"))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_function(f"parseFloat(document.getElementById('zoom-value').textContent) > {1.8 * whole}")


def test_the_place_under_the_pointer_stays_when_it_is_enlarged(open_page: Any) -> None:
    page = open_page()
    spot = page.evaluate(
        """() => {
          const before = (600 - view.x) / (fitScale() * view.zoom);
          zoomBy(4, 600, 100);
          return [before, (600 - view.x) / (fitScale() * view.zoom)];
        }"""
    )
    assert spot[0] == pytest.approx(spot[1], abs=0.01)


def test_difference_and_bits_replace_the_slider(open_page: Any) -> None:
    page = open_page()
    page.check("input[value=difference]")
    assert page.is_hidden("#handle") and page.is_visible("#gain")
    blend = "image => getComputedStyle(image).mixBlendMode"
    assert page.eval_on_selector("#image-right", blend) == "difference"
    page.fill("#gain", "16")
    assert page.eval_on_selector("#layers", "layers => layers.style.filter") == "brightness(16)"
    page.select_option("#left", "1")  # a version beside itself has no difference at all
    page.wait_for_timeout(100)
    shot = page.locator("#stage").screenshot()
    page.check("input[value=bits]")
    assert page.is_visible("#bits") and "47 bits" in page.inner_text("#bits-most")
    page.mouse.move(*middle(page, "#stage", 0.99, 0.99))
    assert "47 bits" in page.inner_text("#bits-value")
    assert is_black(shot) and not is_black(page.locator("#stage").screenshot())


def is_black(png: bytes) -> bool:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    inner = image.crop((4, 4, image.width - 4, image.height - 4))  # an edge may show some of what is around the stage
    return int(np.asarray(inner).max()) < 8


def test_pictures_comparisons_and_sides_are_chosen_in_lists(open_page: Any) -> None:
    page = open_page()
    page.select_option("#right", label="jpeg")
    assert "jpeg, quality 10" in page.inner_text("#caption-right")
    page.select_option("#comparison", label="quality 5")
    page.select_option("#picture", label="b.png")
    assert "b.png, 96 × 128 pixels" in page.inner_text("#versions-caption")
    assert page.input_value("#right") == "2" and page.locator("#places canvas").count() % 3 == 0
    page.click("#places button >> nth=0")
    assert factor(page) > 100 and page.evaluate("document.activeElement.id") == "stage"


def test_the_plot_tells_values_by_mouse_and_keyboard_and_switches_metrics_and_curves(open_page: Any) -> None:
    page = open_page()
    point = page.evaluate("(() => { const { left, top } = plotState.points[2]; return [left, top]; })()")
    box = page.locator("#plot").bounding_box()
    page.mouse.move(box["x"] + point[0] + 3, box["y"] + point[1] + 3)
    assert page.inner_text("#plot-value") == "ours: rate 0.400 bits per pixel, PSNR 30.00 dB"
    page.focus("#plot")
    page.keyboard.press("ArrowRight")
    assert "0.800" in page.inner_text("#plot-value")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#plot-value").startswith("jpeg")
    page.check("#plot-metric >> text=MS-SSIM")
    assert page.locator("#plot .curve").count() == 2
    page.uncheck("#plot-curves >> text=jpeg")
    assert page.locator("#plot .curve").count() == 1
    page.uncheck("#plot-curves >> text=ours")
    assert page.locator("#plot .curve").count() == 0
    page.keyboard.press("ArrowRight")


def test_a_curve_that_is_not_drawn_can_be_chosen(open_page: Any) -> None:
    page = open_page(name="training")
    assert page.locator("#plot .curve").count() == 2 and not page.is_checked("#plot-more >> text=VTM")
    page.click("#plot-more summary")
    page.check("#plot-more >> text=VTM")
    assert page.locator("#plot .curve").count() == 3
    page.check("#plot-metric >> text=Loss over steps")
    assert not page.is_visible("#plot-more")


def test_a_plot_over_steps_is_chosen_and_read_by_keyboard(open_page: Any) -> None:
    page = open_page(name="training")
    assert page.locator("#plot .marker").count() == 1 + 5
    page.focus("#plot-metric input >> nth=0")
    page.keyboard.press("ArrowRight")
    assert page.locator("#plot-metric label").all_inner_texts() == ["PSNR", "Loss over steps"]  # the third is empty
    assert {"step", "loss, log scale"} <= set(page.locator("#plot text").all_text_contents())
    shown = [label for label in page.locator("#plot-curves label").all() if label.is_visible()]
    assert [label.inner_text().strip() for label in shown] == ["training", "validation"]
    assert page.locator("#plot .curve").count() == 2 and page.locator("#plot .marker").count() == 2
    page.focus("#plot")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert re.fullmatch(r"training: step 420, loss \d\.\d{4}", page.inner_text("#plot-value"))
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#plot-value") == "validation: step 100000, loss 1.0900"


@pytest.mark.parametrize("size", SIZES)
def test_plots_of_training_fit_the_screen_and_their_ticks_do_not_meet(open_page: Any, size: str) -> None:
    page = open_page(size, name="training")
    for choice in page.locator("#plot-metric input").all():
        choice.check()
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        frame = page.locator("#plot svg").bounding_box()
        boxes = [text.bounding_box() for text in page.locator("#plot text").all()]
        for box in boxes:
            assert box["x"] >= frame["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
        for number, box in enumerate(boxes):
            for other in boxes[:number]:
                beside = box["x"] >= other["x"] + other["width"] or other["x"] >= box["x"] + box["width"]
                assert beside or abs(box["y"] - other["y"]) >= 0.7 * box["height"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page_of_a_training_run(open_page: Any, size: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_core_python.sync_playwright").Axe()
    page = open_page(size, name="training", color_scheme=scheme)
    for choice in page.locator("#plot-metric input").all():
        choice.check()
        found = axe.run(page, options={"runOnly": {"type": "tag", "values": AA}})
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


def test_fingers_move_the_divider_then_pinch_then_move_the_picture(open_page: Any) -> None:
    page = open_page("phone", has_touch=True, is_mobile=True)
    whole, send = factor(page), page.context.new_cdp_session(page).send
    x, y = middle(page, "#stage")

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": left, "y": top, "id": number} for number, (left, top) in enumerate(places)]
        send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (x, y))
    touch("touchMove", (x + 40, y))
    touch("touchMove", (x + 80, y))
    touch("touchEnd")
    assert divider(page) > 60
    touch("touchStart", (x - 20, y), (x + 20, y))
    touch("touchMove", (x - 40, y), (x + 40, y))
    touch("touchMove", (x - 60, y), (x + 60, y))
    touch("touchEnd")
    assert factor(page) == pytest.approx(3 * whole, rel=0.1)
    before = page.evaluate("view.y")
    touch("touchStart", (x - 100, y))
    touch("touchMove", (x - 100, y + 30))
    touch("touchMove", (x - 100, y + 50))
    touch("touchEnd")
    assert page.evaluate("view.y") > before


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_screen(open_page: Any, size: str) -> None:
    page = open_page(size)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]


@pytest.mark.parametrize("size", [*SIZES, *SMALL])
def test_long_names_make_nothing_wider_than_the_screen(open_page: Any, size: str) -> None:
    page, width = open_page(size, name="long"), {**SIZES, **SMALL}[size][0]
    page.click("summary >> text=The values of the plot")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    heights = [label.bounding_box()["height"] for label in page.locator(".controls > label:visible").all()]
    assert max(heights) < 60 and page.locator("#caption-left").bounding_box()["width"] > 40  # Words are not broken.
    wrapped, clipped = ("h1", ".caption", "#plot-curves label", "figcaption", "#sides"), ("select", ".wide")
    for selector in wrapped + clipped:
        for found in page.locator(selector).all():
            box = found.bounding_box()
            assert box is None or box["x"] + box["width"] <= width, selector
            fits = found.evaluate("found => found.scrollWidth <= found.clientWidth + 1")
            assert fits or selector in clipped, selector


@pytest.mark.parametrize("size", [*SIZES, *SMALL])
def test_tables_have_their_captions_as_names_and_captions_are_seen_whole(open_page: Any, size: str) -> None:
    page, width = open_page(size), {**SIZES, **SMALL}[size][0]
    page.click("summary >> text=The values of the plot")
    for found in page.locator("table").all():
        caption = page.locator(f"#{found.get_attribute('aria-labelledby')}")
        assert caption.inner_text() and caption.is_visible()
        assert caption.bounding_box()["x"] + caption.bounding_box()["width"] <= width


@pytest.mark.parametrize("size", [*SIZES, *SMALL])
def test_very_high_and_very_wide_pictures_stand_in_the_middle_of_a_box_that_can_be_handled(
    open_page: Any, size: str
) -> None:
    page, (width, height) = open_page(size, name="long"), {**SIZES, **SMALL}[size]
    for number in range(3):
        page.select_option("#picture", str(number))
        stage, image = (page.locator(name).bounding_box() for name in ("#stage", "#image-left"))
        assert 180 <= stage["width"] <= width and 90 <= stage["height"] <= 0.751 * height
        for start, length in (("x", "width"), ("y", "height")):
            assert image[length] <= stage[length] + 0.5
            middles = [box[start] + box[length] / 2 for box in (stage, image)]
            assert middles[0] == pytest.approx(middles[1], abs=1)


def test_codecs_without_a_file_are_named_below_the_versions(open_page: Any) -> None:
    assert open_page().inner_text("#missing") == ""
    assert open_page(name="long").inner_text("#missing") == f"Left out, because no file of it is as asked: {LONG}."


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_against_wcag_aa(open_page: Any, size: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_core_python.sync_playwright").Axe()
    page = open_page(size, color_scheme=scheme)
    for mode in ("slider", "difference", "bits"):
        page.check(f"input[value={mode}]")
        found = axe.run(page, options={"runOnly": {"type": "tag", "values": AA}})
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_and_focus_stand_out_from_the_ground(open_page: Any, scheme: str) -> None:
    """Axe sees text alone. Markers have an outline in the colour of text, so that lines alone are left to look at."""
    page = open_page(color_scheme=scheme)
    ratios = page.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const luminance = (name) => {
            const parts = style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((hex) => parseInt(hex, 16) / 255);
            const linear = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
          };
          const ground = luminance("--ground");
          const names = ["--accent", "--ink", "--line", "--c0", "--c1", "--c2", "--c3", "--c4"];
          return Object.fromEntries(names.map((name) => {
            const [high, low] = [ground, luminance(name)].sort((a, b) => b - a);
            return [name, (high + 0.05) / (low + 0.05)];
          }));
        }"""
    )
    assert {name: ratio for name, ratio in ratios.items() if ratio < 3} == {}
