import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from PIL import Image, ImageCms, UnidentifiedImageError

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


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKE, ORIENTATION = 0x010F, 0x0112


def exif(make: str) -> Image.Exif:
    found = Image.Exif()
    found[MAKE], found[ORIENTATION] = make, 1
    return found


def described() -> Image.Image:
    """Return an image with a profile and all metadata."""
    image = Image.fromarray(photo(20, 30))
    image.info.update(icc_profile=PROFILE, exif=exif("old").tobytes(), xmp=b"<old/>", dpi=(300, 300))
    return image


def test_metadata_is_there_before_the_pixels_are_decoded_and_after(model_file: Path) -> None:
    with Image.open(io.BytesIO(saved(described(), model_file))) as again:
        for _ in range(2):
            assert again.info["icc_profile"] == PROFILE and again.info["xmp"] == b"<old/>"
            assert again.info["dpi"] == (300, 300) and again.getexif()[MAKE] == "old"
            again.load()


def test_metadata_that_is_given_replaces_what_the_image_has(model_file: Path) -> None:
    given = {"exif": exif("new"), "xmp": b"<new/>", "dpi": (72, 144), "icc_profile": PROFILE}
    for image in (described(), Image.fromarray(photo(20, 30))):
        with Image.open(io.BytesIO(saved(image, model_file, **given))) as again:
            assert again.getexif()[MAKE] == "new" and again.info["xmp"] == b"<new/>"
            assert again.info["dpi"] == (72, 144) and again.info["icc_profile"] == PROFILE
    with Image.open(io.BytesIO(saved(described(), model_file, exif=exif("bytes").tobytes()))) as again:
        assert again.getexif()[MAKE] == "bytes" and again.info["xmp"] == b"<old/>"


@pytest.mark.parametrize("nothing", [None, b""])
@pytest.mark.parametrize("name", ["exif", "xmp", "icc_profile", "dpi"])
def test_metadata_that_is_given_as_nothing_is_dropped(model_file: Path, name: str, nothing: bytes | None) -> None:
    with Image.open(io.BytesIO(saved(described(), model_file, **{name: nothing}))) as again:
        assert {"exif", "xmp", "icc_profile", "dpi"} - set(again.info) == {name}


def test_a_tiff_keeps_its_exif_if_only_something_else_is_given(model_file: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(photo(20, 30)).save(file, "TIFF", exif=exif("tiff"))
    with Image.open(file) as image, Image.open(io.BytesIO(saved(image, model_file, dpi=(72, 72)))) as again:
        assert again.getexif()[MAKE] == "tiff" and again.info["dpi"] == (72, 72)


def test_metadata_that_is_none_is_refused(model_file: Path) -> None:
    with pytest.raises(ValueError, match="exif must be bytes, not int"):
        saved(described(), model_file, exif=5)


@pytest.mark.parametrize("options", [{"effort": 1.5}, {"effort": 9}, {"quality": "x"}, {"quality": 95}])
def test_numbers_that_mean_nothing_are_refused_as_values(model_file: Path, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"effort|quality"):
        saved(described(), model_file, **options)


@pytest.mark.parametrize("loaded", [False, True])
def test_an_image_can_be_pickled_and_copied_before_and_after_its_pixels_are_decoded(
    model_file: Path, loaded: bool
) -> None:
    data = saved(described(), model_file)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    for twin in (lambda image: pickle.loads(pickle.dumps(image)), copy.deepcopy, copy.copy, Image.Image.copy):
        with Image.open(io.BytesIO(data)) as image:
            if loaded:
                image.load()
            again = twin(image)
            assert (np.asarray(again) == expected).all() and again.info["dpi"] == (300, 300)
            assert (np.asarray(image) == expected).all()


@pytest.mark.parametrize("loaded", [False, True])
def test_a_closed_image_has_no_pixels_and_says_so(model_file: Path, tmp_path: Path, loaded: bool) -> None:
    (tmp_path / "a.atc").write_bytes(saved(described(), model_file))
    image = Image.open(tmp_path / "a.atc")
    if loaded:
        image.load()
    image.close()
    with pytest.raises(ValueError, match="closed"):
        image.load()
