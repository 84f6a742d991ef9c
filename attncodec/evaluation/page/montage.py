"""This module draws a comparison as one picture: all versions side by side, and below them where they differ most."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from attncodec.evaluation.page.contents import PictureViews
from attncodec.metrics import METRICS
from attncodec.pictures import RGB

PANEL_PX, GAP_PX, LABEL_PX, FONT_PX = 512, 8, 48, 16
HEIGHT_MAX_PX = 8 * PANEL_PX  # of the whole picture in a column, so that strips take no more memory than others


def montage(picture: PictureViews) -> RGB:
    """Draw the first comparison of a picture, with a column for the original and for each version."""
    comparison = picture.comparisons[0]
    columns = [("original", f"{picture.rgb.shape[1]} x {picture.rgb.shape[0]}", picture.rgb)]
    name, metric = next(iter(METRICS.items()))
    for version in comparison.versions:
        value = version.figures[name]
        figure = "" if value is None else f", {format(value, metric.form)} {metric.title.split()[-1]}"
        columns.append((f"{version.codec}, {version.setting}", f"{version.file_bytes:,} bytes{figure}", version.rgb))
    height, width = picture.rgb.shape[:2]
    scale = min(PANEL_PX / width, HEIGHT_MAX_PX / height)
    whole = (max(1, round(scale * width)), max(1, round(scale * height)))
    canvas = Image.new(
        "RGB",
        (
            len(columns) * (PANEL_PX + GAP_PX) - GAP_PX,
            LABEL_PX + whole[1] + len(comparison.places) * (PANEL_PX + GAP_PX),
        ),
        "white",
    )
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=FONT_PX)
    for column, (first, second, rgb) in enumerate(columns):
        left, image = column * (PANEL_PX + GAP_PX), Image.fromarray(rgb)
        draw.text((left + 4, 2), f"{first}\n{second}", fill="black", font=font)
        canvas.paste(image.resize(whole, Image.Resampling.LANCZOS), (left, LABEL_PX))
        for row, (x, y, side) in enumerate(comparison.places):
            detail = image.crop((x, y, x + side, y + side)).resize((PANEL_PX, PANEL_PX), Image.Resampling.NEAREST)
            canvas.paste(detail, (left, LABEL_PX + whole[1] + GAP_PX + row * (PANEL_PX + GAP_PX)))
    return np.array(canvas)
