"""A region, what is left of a damaged file, and limits, from Python."""

from typing import Any

import numpy as np
import pytest
from conftest import photo
from PIL import Image

import attncodec
from attncodec.api import Codec
from attncodec.coding.sealed import SealedCodec
from attncodec.errors import AttncodecError, ConfigError, ContainerError, ImageError
from attncodec.pictures import Picture


@pytest.fixture
def codec_(sealed: SealedCodec) -> Codec:
    return Codec(sealed)


def test_a_region_may_be_any_four_integers(codec_: Codec) -> None:
    data = codec_.compress(photo(100, 150))
    whole = np.asarray(codec_.decompress(data)).astype(int)
    boxes = [tuple(np.array([10, 20, 30, 40], kind)) for kind in (np.int8, np.int64, np.uint64)]
    for region in ((10, 20, 30, 40), [10, 20, 30, 40], *boxes):
        part = codec_.decompress(data, region=region)  # type: ignore[arg-type]
        assert part.size == (30, 40)
        assert np.abs(np.asarray(part).astype(int) - whole[20:60, 10:40]).max() <= 1


@pytest.mark.parametrize(
    "region",
    [(0, 0, 1), (10**5000, 0, 1, 1), "0,0,1,1", 7, (0.0, 0, 1, 1), (True, 0, 1, 1), (0, 0, 151, 1), (1, 1, 0, 1)],
)
def test_a_region_that_is_none_is_a_config_error(codec_: Codec, region: Any) -> None:
    with pytest.raises(ConfigError, match="region"):
        codec_.decompress(codec_.compress(photo(100, 150)), region=region)


def test_a_cut_file_says_which_rows_are_not_as_they_were(codec_: Codec) -> None:
    data = codec_.compress(photo(100, 150))
    with pytest.raises(ContainerError, match="truncated"):
        codec_.decompress(data[:-8])
    image = codec_.decompress(data[: len(data) // 2], salvage=True)
    assert image.info["coarse_rows"] == [(0, 100)] and image.info["missing_rows"] == []
    whole = codec_.decompress(data, salvage=True)
    assert whole.info["coarse_rows"] == whole.info["missing_rows"] == []
    assert "missing_rows" not in codec_.decompress(data).info


def test_a_limit_of_pixels_holds_for_pictures_and_files(codec_: Codec) -> None:
    rgb = photo(100, 150)  # 128 x 192 in units of 64
    data = codec_.compress(rgb, max_pixels=128 * 192)
    for picture in (rgb, Image.fromarray(rgb), Picture(rgb)):
        with pytest.raises(ImageError, match="too many"):
            codec_.compress(picture, max_pixels=128 * 192 - 1)
    with pytest.raises(ContainerError, match="too many"):
        codec_.decompress(data, max_pixels=128 * 192 - 1)


@pytest.mark.parametrize("limit", [0, -1, 1.5, "1000", True, None])
def test_a_limit_that_is_no_positive_integer_is_a_config_error(codec_: Codec, limit: Any) -> None:
    with pytest.raises(ConfigError, match="limit of pixels"):
        codec_.compress(photo(8, 8), max_pixels=limit)
    with pytest.raises(AttncodecError):
        codec_.decompress(codec_.compress(photo(8, 8)), max_pixels=limit)


@pytest.mark.parametrize("device", ["mps", "gpu", "", 3])
def test_a_device_that_is_not_supported_is_a_config_error(device: Any) -> None:
    with pytest.raises(ConfigError, match="device"):
        attncodec.load(device=device)
