"""This module shows the results of `attncodec eval`: a row a quality with the means of figures, and BD-rates below."""

from collections.abc import Mapping, Sequence
from typing import Any

from attncodec.evaluation.bd_pairs import Results, name_of, of_pictures, pairs, reasons
from attncodec.evaluation.published import DRAWN
from attncodec.metrics import CURVE_AXES, METRICS
from attncodec.names import printable

NAMED_MAX = 3  # pictures that a line names
FIGURES = (
    ("bpp", "bpp", ".4f"),
    ("bpp_est", "bpp_est", ".4f"),
    *((name, metric.title, metric.form) for name, metric in METRICS.items()),
    ("ms_ssim_db", "MS-SSIM dB", ".2f"),
    ("encode_s", "encode s", ".3f"),
    ("decode_s", "decode s", ".3f"),
    ("peak_mib", "peak MiB", ".0f"),
)
BD_TITLE = "BD-rate; below zero, the codec needs fewer bits than the reference:"
BD_HEADER = ["codec", "reference", "at equal", "BD-rate", "BD-PSNR", "range", "median", "worst picture"]
Rows = list[list[str]]


def text(results: Results, per_picture: bool = False) -> str:
    """Return what the terminal shows: the models, and how they compare with every other curve."""
    lines = []
    for model, about in results["models"].items():
        rows = _picture_rows(results, model) if per_picture else _rows(results, [model])
        lines += [_title(model, about), *_aligned([_header("picture" if per_picture else "codec"), *rows]), ""]
    lines += [*notes(results), ""]
    not_shown = [name for name in results["published"] if name not in DRAWN]
    rates = _bd_rows(results, list(results["models"]), not_shown)
    if len(rates) > 1:
        lines += [BD_TITLE, *_aligned(rates)]
    lines += reasons(results, list(results["models"]))
    if not_shown:
        lines.append(f"table.md has the BD-rates against {len(not_shown)} more published curves.")
    return "\n".join(map(printable, lines)).rstrip()


def markdown(results: Results) -> str:
    """Return the contents of table.md: all codecs, and all BD-rates of measured codecs."""
    titles = [_title(model, about) for model, about in results["models"].items()]
    parts = [_paragraph(titles), _in_markdown(means(results, list(results["points"]))), _paragraph(notes(results))]
    rates = _bd_rows(results, list(results["points"]))
    if len(rates) > 1:
        parts += [BD_TITLE, _in_markdown(rates)]
    parts += [_paragraph(lines) for lines in [reasons(results, list(results["points"]))] if lines]
    return "\n\n".join(parts)


def means(results: Results, codecs: Sequence[str]) -> Rows:
    """Return a header, and a row with the means of each codec at each quality."""
    return [_header("codec"), *_rows(results, codecs)]


def _title(model: str, about: dict[str, Any]) -> str:
    kmac = about["kmac_per_pixel"]
    return (
        f"{model}: model {about['decoder_id']}, {kmac['encode']:.1f} kMAC/pixel to encode and {kmac['decode']:.1f} to "
        f"decode, {about['parameters'] / 1e6:.1f} M parameters"
    )


def _header(first: str) -> list[str]:
    return [first, "quality", *(title for _, title, _ in FIGURES)]


def _rows(results: Results, codecs: Sequence[str]) -> Rows:
    return [_row(codec, point) for codec in codecs for point in results["points"].get(codec, [])]


def _picture_rows(results: Results, codec: str) -> Rows:
    rows = [row for row in results["records"] if row["codec"] == codec]
    in_db = CURVE_AXES["ms_ssim_db"].in_db
    found = []
    for row in sorted(rows, key=lambda row: row["quality"]):
        similarity = row["ms_ssim"]
        found.append(_row(row["name"], {**row, "ms_ssim_db": None if similarity is None else in_db(similarity)}))
    return found


def _row(label: str, values: dict[str, Any]) -> list[str]:
    setting = f"{values['quality']:g} {values['variant']}".strip()
    return [label, setting, *(_cell(values[name], form) for name, _, form in FIGURES)]


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def notes(results: Results) -> list[str]:
    """Say over how many pictures the means are, and which pictures they leave out."""
    count, left_out = results["means"]["pictures"], results["means"]["left_out"]
    lines = [f"Means over {count} picture{'' if count == 1 else 's'}; peak MiB is the highest."]
    if results["partial"]:
        asked = results["means"]["asked"]
        lines = [f"Partial: the evaluation was interrupted when {count} of {asked} pictures were measured.", *lines]
    elif left_out:
        lines.append(f"Left out, because some codec has no file of them: {_named(left_out)}.")
    for axis, found in results["axes"].items():
        if without := [name for name in found["left_out"] if name not in left_out]:
            named = _named(without)
            title = CURVE_AXES[axis].title
            lines.append(f"{title} and its BD-rates: over {found['pictures']}; in some file there is none for {named}.")
    return lines


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more


def _bd_rows(results: Results, codecs: Sequence[str], left_out: Sequence[str] = ()) -> Rows:
    """Return the BD-rates of some codecs against every other curve but those that are left out."""
    return [
        BD_HEADER,
        *(
            [
                pair["codec"],
                name_of(results, pair["reference"]),
                CURVE_AXES[axis].title,
                *_bd_cells(results, axis, pair),
            ]
            for axis, pair in pairs(results, codecs)
            if pair["reference"] not in left_out
        ),
    ]


def _bd_cells(results: Results, axis: str, pair: Mapping[str, Any]) -> list[str]:
    if pair["bd_rate_percent"] is None:
        return ["-", "-", pair["reason"], "-", "-"]
    low, high = pair["range_db"]
    change = "-" if pair["bd_psnr_db"] is None else f"{pair['bd_psnr_db']:+.2f} dB"
    cells = [f"{pair['bd_rate_percent']:+.1f} %", change, f"{low:.1f} to {high:.1f} dB"]
    pictures, of = of_pictures(results, axis, pair)
    if pictures is None:
        return [*cells, "-", "-"]
    worst = f"{pictures['worst_percent']:+.1f} %, {pictures['worst_picture']}"
    return [*cells, f"{pictures['median_percent']:+.1f} %{of}", f"{worst}{of}"]


def _aligned(rows: Rows) -> list[str]:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _paragraph(lines: Sequence[str]) -> str:
    return "\n".join(map(printable, lines))


def _in_markdown(rows: Rows) -> str:
    cells = [[printable(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "| --- | --- |" + " ---: |" * (len(rows[0]) - 2), *lines[1:]])
