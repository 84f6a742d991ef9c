import io
from typing import Any

import numpy as np
import pytest
from conftest import photo
from PIL import Image

from attncodec.evaluation.classic import CLASSIC, COMPARED
from attncodec.evaluation.classic.codec import ClassicCodec
from attncodec.evaluation.classic.search import classic_curves, smallest_file
from attncodec.metrics.psnr import psnr_for_means_db


@pytest.mark.parametrize("name", COMPARED)
def test_a_classic_codec_is_given_no_fewer_bytes_and_not_many_more(name: str) -> None:
    rgb, codec = photo(128, 192), CLASSIC[name]
    for wanted in (2000, 4000, 8000):
        file = smallest_file(codec, rgb, wanted)
        assert file is not None and wanted <= len(file.data) < 1.2 * wanted
        with Image.open(io.BytesIO(file.data)) as image:
            assert (np.asarray(image.convert("RGB")) == file.decoded).all()


@pytest.mark.parametrize("name", COMPARED)
def test_the_highest_quality_is_taken_where_none_is_large_enough(name: str) -> None:
    file = smallest_file(CLASSIC[name], photo(32, 32), 10**9)
    assert file is not None and file.quality == 100


def test_jpeg_is_the_better_of_both_subsamplings() -> None:
    """One picture has fine colour, and the other has none."""
    codec = CLASSIC["jpeg"]
    colourful = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for rgb in (colourful, photo(64, 64)):
        best = smallest_file(codec, rgb, 3000)
        assert best is not None
        for subsampling in ("4:2:0", "4:4:4"):
            for quality in range(1, 101):
                file = io.BytesIO()
                options = {"subsampling": subsampling, "optimize": True, "progressive": True}
                Image.fromarray(rgb).save(file, "JPEG", quality=quality, **options)
                if len(file.getvalue()) >= 3000:
                    decoded = np.asarray(Image.open(file).convert("RGB"))
                    assert psnr_for_means_db(rgb, best.decoded) >= psnr_for_means_db(rgb, decoded)
                    break


@pytest.mark.parametrize("name", COMPARED)
def test_a_size_that_a_format_has_not_gives_no_file(name: str) -> None:
    assert smallest_file(CLASSIC[name], np.zeros((1, 70_000, 3), np.uint8), 100) is None


def test_curves_rise() -> None:
    found = classic_curves([photo(96, 128, 1), photo(80, 64, 2)])
    assert found is not None
    assert set(found) == {codec.format for codec in CLASSIC.values() if codec.available} >= {"JPEG", "WEBP"}
    for curve in found.values():
        rates_bpp, qualities_db = np.array(curve).T
        assert len(curve) >= 4 and (np.diff(rates_bpp) > 0).all() and (np.diff(qualities_db) > 0).all()


def test_what_a_codec_cannot_write_is_left_out_of_its_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save

    def refuse(self: Image.Image, file: Any, kind: str, quality: int, **options: Any) -> None:
        if kind == "WEBP" or (kind == "JPEG" and quality > 90):
            raise OSError("encoder error")
        save(self, file, kind, quality=quality, **options)

    whole = classic_curves([photo(64, 64)])
    monkeypatch.setattr(Image.Image, "save", refuse)
    found = classic_curves([photo(64, 64)])
    assert whole is not None and found is not None
    assert "WEBP" not in found and found["JPEG"] == whole["JPEG"][: len(found["JPEG"])] != whole["JPEG"]


def test_measuring_curves_can_be_stopped() -> None:
    assert classic_curves([photo(64, 64)], stopped=lambda: True) is None


def test_a_codec_that_cannot_read_what_it_wrote_is_left_out_of_the_plots_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decode = ClassicCodec.decode

    def refuse(self: ClassicCodec, data: bytes) -> Any:
        return None if self.format == "WEBP" else decode(self, data)

    monkeypatch.setattr(ClassicCodec, "decode", refuse)
    found = classic_curves([photo(64, 64)])
    assert found and "WEBP" not in found and "JPEG" in found
    assert caplog.messages == ["left out of the plots: the classic codec 'webp' cannot decode what it encodes to"]


@pytest.mark.parametrize("name", COMPARED)
def test_known_sizes_shorten_the_search_and_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, codec, tried = photo(64, 96), CLASSIC[name], list[int]()
    sizes = {
        variant: {quality: len(codec.encode(rgb, quality, options) or b"") for quality in range(10, 100, 10)}
        for variant, options in codec.variants.items()
    }
    encode = ClassicCodec.encode

    def counted(self: ClassicCodec, rgb: Any, quality: int, variant: Any) -> bytes | None:
        tried.append(quality)
        return encode(self, rgb, quality, variant)

    monkeypatch.setattr(ClassicCodec, "encode", counted)
    for wanted in (1, 1500, 10**9):
        plain, count = smallest_file(codec, rgb, wanted), len(tried)
        tried.clear()
        short = smallest_file(codec, rgb, wanted, sizes)
        assert plain and short and (plain.data, plain.quality) == (short.data, short.quality) and len(tried) < count
        tried.clear()


def test_the_file_that_known_sizes_lead_to_has_no_fewer_bytes_though_sizes_do_not_always_rise() -> None:
    class Falling(ClassicCodec):
        def encode(self, rgb: Any, quality: int, variant: Any) -> bytes | None:
            return bytes(sizes[quality])

        def decode(self, data: bytes) -> Any:
            return rgb

    rgb = photo(8, 8)
    sizes = {quality: 10 * quality for quality in range(1, 101)} | {45: 700, 61: 595, 62: 598}
    codec = Falling("PNG", {"": lambda quality: {}}, 1000)
    known = {"": {quality: sizes[quality] for quality in (15, 45, 60, 75)}}
    for at_least in (601, 699):
        found = smallest_file(codec, rgb, at_least, known)
        assert found is not None and len(found.data) >= at_least


@pytest.mark.parametrize("name", CLASSIC)
def test_every_variant_of_a_codec_that_is_installed_writes_files_of_its_own(name: str) -> None:
    codec, rgb = CLASSIC[name], photo(48, 64)
    if not codec.available:
        pytest.skip(f"{codec.format} is not installed")
    files = [codec.encode(rgb, 50, options) for options in codec.variants.values()]
    assert len(set(files)) == len(codec.variants)
    for data in files:
        assert data and (decoded := codec.decode(data)) is not None and decoded.shape == rgb.shape
    assert any(character.isdigit() for character in codec.library)
