import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import photo, write_config
from PIL import Image

import attncodec
from attncodec import api
from attncodec.coding.encoder import Target
from attncodec.coding.find_model import ModelCache
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.coding.shipped import shipped
from attncodec.config import Config
from attncodec.config_file import load_config
from attncodec.container import unpack
from attncodec.errors import CheckError, ConfigError, ContainerError, ImageError
from attncodec.files import write_output
from attncodec.metrics.psnr import psnr_db, psnr_for_means_db
from attncodec.pictures import Picture
from attncodec.training.progress import Report


def test_the_example_of_the_docstring_runs(model_file: Path) -> None:
    codec = api.load(str(model_file))
    rgb = photo(30, 40)
    data = codec.compress(rgb)
    assert np.asarray(codec.decompress(data)).shape == rgb.shape


def test_the_shipped_model_is_small_and_its_files_decode_without_its_name(tmp_path: Path) -> None:
    assert shipped().stat().st_size <= 32_000_000
    codec, rgb = api.load(), photo(90, 120)
    assert codec.sealed.quality_indices[-1] == 8 * 64
    data = codec.compress(rgb)
    sealed = ModelCache(None).model_for(unpack(data))
    decoded = np.asarray(api.Codec(sealed).decompress(data))
    assert psnr_for_means_db(rgb, decoded) > 28 and 8 * len(data) / (90 * 120) < 3


def test_what_was_measured_for_a_model_is_said(model_file: Path) -> None:
    assert api.describe_file(model_file)["measured"] == []
    assert "rounding.error_weight" in api.describe_file(shipped())["measured"]


def test_a_file_is_verified_as_it_was_written(
    sealed: SealedCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = photo(70, 50)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    arguments = (sealed, tmp_path / "a.png", tmp_path / "a.atc", Target(quality=2), 0, True)
    found = api.compress_file(*arguments)
    data = (tmp_path / "a.atc").read_bytes()
    assert found.bytes == len(data) and found.bpp == 8 * len(data) / (70 * 50)
    assert found.psnr_db == psnr_db(rgb, np.asarray(api.Codec(sealed).decompress(data)))

    def damage(path: Path, data: bytes) -> None:
        write_output(path, data[:-1] + bytes([data[-1] ^ 1]))

    monkeypatch.setattr(api, "write_output", damage)
    with pytest.raises(CheckError, match="does not decode"):
        api.compress_file(*arguments)


def test_files_are_decompressed_with_the_model_that_wrote_them(model_file: Path, tmp_path: Path) -> None:
    sealed = load_sealed(model_file)
    Image.fromarray(photo(70, 50)).save(tmp_path / "a.png")
    written = api.compress_file(sealed, tmp_path / "a.png", tmp_path / "a.atc", Target())
    models = ModelCache(model_file)
    found = api.decompress_file(models, tmp_path / "a.atc", tmp_path / "b.png")
    assert (found.width, found.height) == (50, 70) and (tmp_path / "b.png").exists()
    assert api.latents_sha256((tmp_path / "a.atc").read_bytes(), models) == written.latents_sha256


def test_the_package_gives_what_the_api_has_and_imports_torch_only_then() -> None:
    script = (
        "import sys, attncodec; assert 'torch' not in sys.modules and 'pydantic' not in sys.modules\n"
        "from attncodec import api; assert attncodec.load is api.load and attncodec.train is api.train\n"
        "assert all(hasattr(attncodec, name) for name in attncodec.__all__)\n"
        "assert set(attncodec.__all__) <= set(dir(attncodec)) and attncodec.errors.ImageError\n"
        "try: attncodec.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "else: raise SystemExit('there is no error')\n"
        "assert not any(name.split('.')[0] in ('tensorboard', 'matplotlib', 'compressai') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=100)


def test_training_from_python_reports_progress_and_resumes(quick_config: Config, tmp_path: Path) -> None:
    reports = list[Report]()
    config = quick_config.model_copy(update={"train": quick_config.train.model_copy(update={"budget": "21"})})
    outcome = attncodec.train(config, out=tmp_path / "run", device="cpu", on_progress=reports.append)
    assert [report.step for report in reports] == [20, 21]
    assert reports[-1].fraction == 1 and reports[-1].loss > 0 and reports[-1].bpp > 0
    assert outcome.trained and outcome.progress.step == 21
    rgb, codec = photo(40, 30), attncodec.load(outcome.model)
    assert codec.decompress(codec.compress(rgb)).size == (30, 40)
    assert not attncodec.train(config, out=tmp_path / "run").trained


def test_training_from_python_takes_a_file_and_overrides(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, pictures, "2")
    outcome = attncodec.train(config, ["train.seed=3"], device="cpu")
    assert outcome.model == Path("runs/tiny/model.safetensors") and outcome.model.exists()
    assert load_config(outcome.folder.config).train.seed == 3


def test_training_on_another_thread_leaves_signals_alone(quick_config: Config, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        outcome = pool.submit(attncodec.train, quick_config, out=tmp_path / "run", device="cpu").result()
    assert outcome.progress.finished


def test_a_config_without_a_run_folder_is_refused(quick_config: Config) -> None:
    with pytest.raises(ConfigError, match="needs a run folder"):
        attncodec.train(quick_config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.attention.kind=sparse", "there is no 'sparse'"),
        ("model.context=quadtreee", "there is no 'quadtreee'"),
        ("train.optimiser=mun", "there is no 'mun'"),
        ("train.initialisation=dtc", "there is no 'dtc'"),
        ("model.attention={kind: dot, heads: 5}", "not divisible by 5"),
    ],
)
def test_an_unknown_part_is_refused_before_a_picture_is_read(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        attncodec.train("default", ["data.train=nowhere", override], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_started_over_or_extended_and_not_both(quick_config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="starts over"):
        attncodec.train(quick_config, out=tmp_path / "run", restart=True, extend="2")


def test_a_path_its_bytes_an_image_an_array_and_a_picture_give_the_same_file(model_file: Path, place: Path) -> None:
    codec = api.load(model_file)
    rgb = photo(70, 50)
    sources: list[api.Source] = [place / "img.png", str(place / "img.png"), Image.fromarray(rgb), rgb, Picture(rgb)]
    data = (place / "img.png").read_bytes()
    sources += [data, bytearray(data), memoryview(data), io.BytesIO(data)]
    assert len({codec.compress(source, quality=2) for source in sources}) == 1
    grey = codec.decompress(codec.compress(rgb[..., 0]))
    assert grey.mode == "L" and grey.size == (50, 70)
    assert codec.decompress(codec.compress(np.dstack([rgb, rgb[..., 0]]))).mode == "RGBA"


def test_any_kind_of_bytes_is_decompressed_and_nothing_else(model_file: Path) -> None:
    codec = api.load(model_file)
    data = codec.compress(photo(20, 30))
    assert {codec.decompress(given).tobytes() for given in (bytearray(data), memoryview(data))} == {
        codec.decompress(data).tobytes()
    }
    for given in (None, "img.atc", 5):
        with pytest.raises(ContainerError, match="not the bytes"):
            codec.decompress(given)  # type: ignore[arg-type]


def test_files_are_made_and_read_with_what_load_returns(model_file: Path, place: Path) -> None:
    codec = attncodec.load(model_file)
    written = api.compress_file(codec, str(place / "img.png"), str(place / "img.atc"), Target(), verify=True)
    found = api.decompress_file(codec, str(place / "img.atc"), str(place / "out.png"))
    assert (found.width, found.height, found.sealed) == (50, 70, codec.sealed)
    assert api.latents_sha256((place / "img.atc").read_bytes(), codec) == written.latents_sha256
    assert (place / "out.png").is_file()


def test_what_a_format_does_not_hold_is_told_with_the_file(model_file: Path, place: Path) -> None:
    codec, image = attncodec.load(model_file), Image.fromarray(photo(20, 30))
    image.info.update(xmp=b"x" * 70_000, dpi=(300, 300))
    (place / "img.atc").write_bytes(codec.compress(image))
    assert "XMP" in api.decompress_file(codec, place / "img.atc", place / "a.jpg").notes[0]
    assert "resolution" in api.decompress_file(codec, place / "img.atc", place / "a.webp").notes[0]
    assert not api.decompress_file(codec, place / "img.atc", place / "a.tif").notes


def test_a_note_about_a_picture_reaches_the_caller(sealed: SealedCodec, tmp_path: Path) -> None:
    Image.fromarray(photo(8, 8)[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    found = api.compress_file(sealed, tmp_path / "deep.png", tmp_path / "deep.atc", Target(), verify=True)
    assert any("8 are kept" in note for note in found.notes)


def test_a_suffix_that_cannot_be_written_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="bmp"):
        api.decompress_file(ModelCache(None), tmp_path / "there-is-none.atc", tmp_path / "x.bmp")


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_an_array_of_one_to_four_channels_comes_back_in_its_mode(model_file: Path, channels: int, mode: str) -> None:
    codec = api.load(model_file)
    array = np.dstack([photo(8, 9), photo(8, 9, 1)[..., 0]])[..., 4 - channels :]
    assert codec.decompress(codec.compress(array)).mode == mode


def test_a_file_is_described_by_its_name_too(model_file: Path) -> None:
    assert attncodec.describe_file(str(model_file)) == attncodec.describe_file(model_file)
