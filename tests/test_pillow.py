import io
from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from PIL import Image, UnidentifiedImageError

import attncodec
from attncodec import pillow
from attncodec.coding.find_model import ModelCache
from attncodec.coding.sealed import SealedCodec
from attncodec.container import Container


@pytest.fixture(autouse=True)
def _small_model(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow, "MODELS", ModelCache(model_file))


def saved(image: Image.Image, model: Path, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "ATC", model=str(model), **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_an_image_is_saved_and_opened_in_its_mode(model_file: Path, mode: str) -> None:
    image = Image.fromarray(photo(40, 30)).convert("RGBA")
    image.putalpha(Image.fromarray(photo(40, 30, 1)[..., 0]))
    with Image.open(io.BytesIO(saved(image.convert(mode), model_file))) as again:
        assert again.format == "ATC" and again.mode == mode and again.size == (30, 40)
        assert again.info["quality"] == 3
        pixels = np.asarray(again)
    expected = attncodec.load(model_file).decompress(saved(image.convert(mode), model_file))
    assert (pixels == np.asarray(expected)).all()


def test_pixels_are_decoded_when_they_are_asked_for_and_once(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.fromarray(photo(20, 20)), model_file)
    asked: list[Container] = []
    original = ModelCache.model_for

    def counted(self: ModelCache, container: Container) -> SealedCodec:
        asked.append(container)
        return original(self, container)

    monkeypatch.setattr(ModelCache, "model_for", counted)
    image = Image.open(io.BytesIO(data))
    assert image.size == (20, 20) and not asked
    image.load()
    image.load()
    assert len(asked) == 1


def test_options_reach_the_codec(model_file: Path, tmp_path: Path) -> None:
    image = Image.fromarray(photo(64, 64))
    image.save(tmp_path / "a.atc", model=str(model_file), target_bytes=700)
    assert (tmp_path / "a.atc").stat().st_size <= 700
    with pytest.raises(ValueError, match="cannot be combined"):
        saved(image, model_file, quality=1, target_bytes=700)


def test_metadata_goes_through(model_file: Path) -> None:
    image = Image.fromarray(photo(20, 20))
    image.info["dpi"] = (300, 300)
    with Image.open(io.BytesIO(saved(image, model_file))) as again:
        again.load()
        assert again.info["dpi"] == (300, 300)


def test_a_damaged_file_is_no_picture_or_cannot_be_loaded(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(saved(Image.fromarray(photo(20, 20)), model_file))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data[:20]))
    data[-3] ^= 1
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match=r"checksum|damaged"):
        image.load()
    monkeypatch.setattr(pillow, "MODELS", ModelCache(None))
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="not in"):
        image.load()


def test_a_thumbnail_and_a_conversion_work(model_file: Path) -> None:
    with Image.open(io.BytesIO(saved(Image.fromarray(photo(64, 64)), model_file))) as image:
        image.thumbnail((16, 16))
        assert image.size == (16, 16)
    with Image.open(io.BytesIO(saved(Image.fromarray(photo(64, 64)), model_file))) as image:
        assert image.convert("L").mode == "L"


def test_a_file_that_pillow_opened_is_closed_with_its_pixels(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.atc").write_bytes(saved(Image.fromarray(photo(20, 20)), model_file))
    image = Image.open(tmp_path / "a.atc")
    opened = image.fp
    image.load()
    assert opened is not None and opened.closed
