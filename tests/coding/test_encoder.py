from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import TINY, photo

from attncodec.coding.bottlenecks import EncodeBottleneck
from attncodec.coding.decoder import PictureDecoder, decompress
from attncodec.coding.encoder import PictureEncoder, Target, compress, reconstruct
from attncodec.coding.sealed import SealedCodec
from attncodec.container import pack, unpack
from attncodec.errors import CheckpointError, ConfigError
from attncodec.metrics.psnr import psnr_for_means_db
from attncodec.networks.bottleneck import Elements
from attncodec.pictures import Picture
from attncodec.quality import quality_indices, rd_lambda_at


@pytest.fixture(scope="module")
def encoder(sealed: SealedCodec) -> PictureEncoder:
    return PictureEncoder(sealed, photo(192, 256))


def test_the_count_is_the_size_of_the_file_but_for_the_last_words(encoder: PictureEncoder) -> None:
    for quality_index in (64, 114, 192):
        assert 0 <= encoder.file_bytes(quality_index) - encoder.count_bytes(quality_index) <= 8


def test_a_target_in_bytes_is_met_from_below_by_the_next_larger_file(encoder: PictureEncoder) -> None:
    sizes = [encoder.file_bytes(quality_index) for quality_index in quality_indices(3)]
    for limit in (sizes[3] + 1, sizes[60], sizes[100] - 1):
        size = len(pack(encoder.encode(Target(bytes=limit))))
        assert size <= limit
        assert limit - size <= max(0.02 * limit, 16)


def test_a_target_in_bpp_counts_the_whole_file(encoder: PictureEncoder) -> None:
    data = pack(encoder.encode(Target(bpp=0.25)))
    assert 0.24 <= 8 * len(data) / (192 * 256) <= 0.25


def test_a_target_in_db_is_met_from_above(encoder: PictureEncoder, sealed: SealedCodec) -> None:
    low, high = encoder.psnr_db(encoder.lowest), encoder.psnr_db(encoder.highest)
    target_db = (low + high) / 2
    decoded = PictureDecoder(sealed, encoder.encode(Target(psnr_db=target_db))).decode()
    assert target_db <= psnr_for_means_db(encoder.rgb, decoded) <= target_db + 0.1


@pytest.mark.parametrize(
    ("target", "words"),
    [(Target(bytes=50), "smallest file"), (Target(bpp=0.001), "smallest file"), (Target(psnr_db=90), "best file")],
)
def test_a_target_out_of_reach_says_what_can_be_reached(encoder: PictureEncoder, target: Target, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        encoder.encode(target)
    assert words in caught.value.hint


def test_a_search_takes_at_most_twelve_trials_and_one_analysis(
    sealed: SealedCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"transmit": 0, "analyse_rows": 0}
    for owner, name in ((sealed.codec, "transmit"), (sealed, "analyse_rows")):
        original = getattr(owner, name)

        def counted(*arguments: Any, name: str = name, original: Any = original, **options: Any) -> object:
            counts[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)
    compress(sealed, photo(64, 64), Target(bpp=1.5))
    assert counts["analyse_rows"] == 1 and counts["transmit"] <= 12


@pytest.mark.parametrize("quality", [0, 0.99, 3.02, 9, float("inf")])
def test_a_quality_that_the_model_has_not_is_refused(sealed: SealedCodec, quality: float) -> None:
    with pytest.raises(ConfigError, match="quality"):
        compress(sealed, photo(8, 8), Target(quality=quality))


def test_the_default_is_quality_4_or_the_highest(sealed: SealedCodec) -> None:
    assert unpack(compress(sealed, photo(8, 8))).quality_index == 3 * 64


def test_nothing_is_skipped_where_that_would_cost_too_much(
    sealed: SealedCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale index of 0 everywhere makes every element look certain, and skipping all of them ruins the picture."""
    original = EncodeBottleneck.send_y

    def certain(self: EncodeBottleneck, y: torch.Tensor, elements: Elements) -> torch.Tensor:
        return original(self, y, replace(elements, scale_index=torch.zeros_like(elements.scale_index)))

    monkeypatch.setattr(EncodeBottleneck, "send_y", certain)
    assert not unpack(compress(sealed, photo(64, 64))).stripes[0].skip


@pytest.mark.parametrize("target", [{"bpp": float("nan")}, {"bpp": float("inf")}, {"psnr_db": float("nan")}])
def test_a_target_that_is_no_number_is_refused(target: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="finite number"):
        Target(**target)


def test_a_rate_above_all_files_gives_the_best_one(encoder: PictureEncoder) -> None:
    assert encoder.encode(Target(bpp=1e308)).quality_index == 3 * 64


def test_a_model_whose_analysis_is_not_finite_is_named_as_damaged(sealed: SealedCodec) -> None:
    broken = SealedCodec(sealed.header, {**sealed.tensors, "analysis.unit": 0 * sealed.tensors["analysis.unit"]})
    with pytest.raises(CheckpointError, match="not finite"):
        compress(broken, photo(8, 8))


def test_a_search_finds_every_quality_and_asks_only_for_those_of_the_model(encoder: PictureEncoder) -> None:
    for answer in (63, 64, 65, 127, 128, 129, 191, 192):
        asked = list[int]()

        def holds(quality_index: int, answer: int = answer, asked: list[int] = asked) -> bool:
            asked.append(quality_index)
            return quality_index <= answer

        assert encoder._bisect_quality(holds) == answer
        assert set(asked) <= set(quality_indices(3)) and len(asked) <= 8


def test_a_target_that_a_file_meets_exactly_is_met_by_that_file(
    encoder: PictureEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "psnr_db", lambda quality_index: quality_index / 4)
    monkeypatch.setattr(encoder, "count_bytes", lambda quality_index: 10 * quality_index)
    monkeypatch.setattr(
        encoder, "file_bytes", lambda quality_index: 10 * quality_index + (4 if quality_index > 90 else 0)
    )
    for target, expected in [
        (Target(psnr_db=25.0), 100),
        (Target(psnr_db=25.01), 101),
        (Target(psnr_db=16.0), 64),
        (Target(psnr_db=48.0), 192),
        (Target(psnr_db=48.01), 193),
        (Target(bytes=900), 90),
        (Target(bytes=899), 89),
        (Target(bytes=1000), 99),
        (Target(bytes=1004), 100),
        (Target(bytes=640), 64),
        (Target(bytes=639), 63),
        (Target(bytes=10**9), 192),
        (Target(bpp=8 * 900 / (192 * 256)), 90),
        (Target(quality=1.5), 96),
    ]:
        assert encoder._index_of(target) == expected, target


def test_files_that_meet_a_target_are_compared_by_what_it_leaves_open(
    encoder: PictureEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "psnr_db", lambda quality_index: 30.5)
    monkeypatch.setattr(encoder, "file_bytes", lambda quality_index: 1234)
    targets = [Target(psnr_db=30), Target(bytes=2000), Target(bpp=1), Target(quality=2), Target()]
    assert [encoder._shortfall(target, 128) for target in targets] == [1234, -30.5, -30.5, 0, 0]


def test_the_loss_is_bpp_plus_lambda_255_squared_mse(encoder: PictureEncoder, sealed: SealedCodec) -> None:
    container = encoder.write(100)
    decoded = PictureDecoder(sealed, container).decode()
    mse_255 = float(((decoded.astype(float) - encoder.rgb) ** 2).mean())
    expected = 8 * len(pack(container)) / (192 * 256) + rd_lambda_at(TINY.rd_lambdas, 100) * mse_255
    assert encoder.loss(100) == pytest.approx(expected)


def test_the_count_includes_metadata_and_every_stripe(sealed: SealedCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attncodec.coding.encoder.stripe_units", lambda width, height: 1)
    monkeypatch.setattr("attncodec.container.stripe_units", lambda width, height: 1)
    encoder = PictureEncoder(sealed, Picture(photo(140, 64), icc=bytes(1000), xmp=bytes(10)))
    for quality_index in (64, 192):
        assert 0 <= encoder.file_bytes(quality_index) - encoder.count_bytes(quality_index) <= 3 * 8


def test_a_picture_that_comes_back_unchanged_has_an_infinite_psnr(
    encoder: PictureEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = slice(0, encoder.rgb.shape[0])
    monkeypatch.setattr(encoder, "_strips", lambda y_hat, quality_index: [(whole, encoder.rgb)])
    assert encoder.psnr_db(100) == float("inf")


def test_the_default_quality_of_a_model_with_five_levels_is_4(five_levels: SealedCodec) -> None:
    encoder = PictureEncoder(five_levels, photo(8, 8))
    assert (encoder.lowest, encoder.highest) == (64, 320)
    assert encoder.encode(Target()).quality_index == 256


def test_what_a_file_decodes_to_is_known_without_a_file(sealed: SealedCodec) -> None:
    rgb = photo(40, 60)
    decoded, bits = reconstruct(sealed, rgb, 100)
    data = compress(sealed, rgb, Target(quality=100 / 64))
    assert (decoded == decompress(sealed, data)).all()
    assert bits == pytest.approx(8 * len(unpack(data).stripes[0].latents), abs=64)


def test_the_lowest_quality_can_be_asked_for_and_its_size_is_a_target_that_can_be_met(sealed: SealedCodec) -> None:
    lowest = compress(sealed, photo(64, 64), Target(quality=1))
    assert unpack(lowest).quality_index == 64
    assert len(compress(sealed, photo(64, 64), Target(bytes=len(lowest)))) <= len(lowest)
