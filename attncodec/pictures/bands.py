"""Large pictures are converted in bands of rows, so that what is needed on the way takes little memory."""

from collections.abc import Iterator

from PIL import Image

BAND_PIXELS = 1 << 17


def bands(width: int, height: int) -> Iterator[slice]:
    """Go through the rows of a picture, as many at a time as have about BAND_PIXELS."""
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def rows_of(image: Image.Image, rows: slice) -> Image.Image:
    """Return some rows of an image."""
    return image.crop((0, rows.start, image.width, rows.stop))
