from pathlib import Path

import pytest
from conftest import photo
from PIL import Image

from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.sealed import SealedCodec
from attncodec.container import pack
from attncodec.evaluation.records import evaluate_picture, measure_model


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(photo(70, 50)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_record_is_measured_on_the_file_that_compress_writes(sealed: SealedCodec, picture: Path) -> None:
    ours, *classic = evaluate_picture(sealed, picture, "a.png", 2.0)
    encoder = PictureEncoder(sealed, photo(70, 50))
    container = encoder.encode(Target(quality=2.0))
    size = len(pack(container))
    assert ours.bytes == size and ours.bpp == 8 * size / (70 * 50)
    assert ours.bpp_est == pytest.approx(encoder.reconstruct(container)[1] / (70 * 50))
    assert [record.codec for record in classic] == ["jpeg", "webp"]
    assert all(record.bytes >= ours.bytes and record.bpp_est is None for record in classic)


def test_a_model_has_seconds_and_on_linux_a_peak_of_memory(sealed: SealedCodec) -> None:
    record = measure_model(sealed, "mine", photo(70, 50), "a.png", 2.0, effort=0)
    assert record.codec == "mine" and (record.encode_s or 0) > 0 and (record.decode_s or 0) > 0
    assert record.peak_mib is None or 10 < record.peak_mib < 100_000
