from pathlib import Path

import pytest
from conftest import photo
from PIL import Image

from attncodec.coding.encoder import PictureEncoder, Target
from attncodec.coding.sealed import SealedCodec
from attncodec.container import pack
from attncodec.evaluation.records import evaluate_picture, measure_model, summarise
from attncodec.evaluation.report import points


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


def test_means_leave_out_what_a_picture_has_not(sealed: SealedCodec, picture: Path) -> None:
    records = evaluate_picture(sealed, picture, "a.png", 1.0)
    point = summarise(records[:1])
    assert point["ms_ssim"] is None and point["psnr_db"] == records[0].figures["psnr_db"] and point["quality"] == 1.0
    assert summarise([])["bpp"] is None


def test_a_curve_has_a_point_for_each_quality(sealed: SealedCodec, picture: Path) -> None:
    records = [r for quality in (1.0, 3.0) for r in evaluate_picture(sealed, picture, "a.png", quality)]
    assert [point["quality"] for point in points(records, "attncodec")] == [1, 3]
    assert [len(point["images"]) for point in points(records, "jpeg")] == [1, 1]
