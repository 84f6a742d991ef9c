import io

import numpy as np
import pytest
from conftest import photo
from PIL import Image

from attncodec.evaluation.classic import CLASSIC, jpeg
from attncodec.metrics import psnr_db


@pytest.mark.parametrize("name", CLASSIC)
def test_a_classic_codec_is_given_no_fewer_bytes_and_not_many_more(name: str) -> None:
    rgb = photo(128, 192)
    for wanted in (2000, 4000, 8000):
        file = CLASSIC[name](rgb, wanted)
        assert file is not None and wanted <= len(file.data) < 1.2 * wanted
        with Image.open(io.BytesIO(file.data)) as image:
            assert (np.asarray(image.convert("RGB")) == file.decoded).all()


@pytest.mark.parametrize("name", CLASSIC)
def test_the_highest_quality_is_taken_where_none_is_large_enough(name: str) -> None:
    file = CLASSIC[name](photo(32, 32), 10**9)
    assert file is not None and file.quality == 100


def test_jpeg_is_the_better_of_both_subsamplings() -> None:
    """Fine colour in one picture, none in the other."""
    colourful = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for rgb in (colourful, photo(64, 64)):
        best = jpeg(rgb, 3000)
        assert best is not None
        for subsampling in ("4:2:0", "4:4:4"):
            for quality in range(1, 101):
                data = io.BytesIO()
                Image.fromarray(rgb).save(
                    data, "JPEG", quality=quality, subsampling=subsampling, optimize=True, progressive=True
                )
                if len(data.getvalue()) >= 3000:
                    decoded = np.asarray(Image.open(data).convert("RGB"))
                    assert (psnr_db(rgb, best.decoded) or 99) >= (psnr_db(rgb, decoded) or 99)
                    break


@pytest.mark.parametrize("name", CLASSIC)
def test_a_size_that_a_format_has_not_gives_no_file(name: str) -> None:
    assert CLASSIC[name](np.zeros((1, 70_000, 3), np.uint8), 100) is None
