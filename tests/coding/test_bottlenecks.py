import math
import zlib

import numpy as np
import pytest
import torch

from attncodec.coding.bottlenecks import (
    BitCounter,
    DecodeBottleneck,
    EncodeBottleneck,
    LatentsDigest,
    skip_cost_db,
    to_tensor,
    try_skipping,
)
from attncodec.coding.range_coder import SymbolWriter
from attncodec.coding.tables import TableSet, gaussian_tables
from attncodec.networks.bottleneck import Elements
from attncodec.networks.priors import SKIP_SCALE_INDEX, gaussian_bits

TABLES = TableSet(gaussian_tables())


def bottleneck_with(error: float, skip_error: float, skip_below: int = SKIP_SCALE_INDEX) -> EncodeBottleneck:
    """Return a bottleneck through which latents went with these sums of squares."""
    bottleneck = EncodeBottleneck(BitCounter(), TABLES, TABLES, skip_below)
    bottleneck.error, bottleneck.skip_error = error, skip_error
    return bottleneck


def test_what_is_skipped_is_not_coded_and_counts_as_an_error() -> None:
    """Of four elements two are skipped, one of them though its symbol is not zero, and one is beyond the picture."""
    mean = torch.tensor([0.0, 0.25, 0.5, 7.0]).double().reshape(1, 4, 1, 1)
    residual = torch.tensor([0.4, 0.6, -1.2, 3.0]).double().reshape(1, 4, 1, 1)
    scale_index = torch.tensor([7.0, 0.0, 8.0, 100.0]).double().reshape(1, 4, 1, 1)
    valid = torch.tensor([True, True, True, False]).reshape(1, 4, 1, 1)
    bottleneck = bottleneck_with(0.0, 0.0)
    y_hat = bottleneck.send_y(mean + residual, Elements(mean, scale_index, valid, torch.arange(4), gaussian_bits))
    assert (y_hat - mean).flatten().tolist() == [0, 0, -1, 0] and y_hat.dtype == torch.float64
    assert bottleneck.error == pytest.approx(0.4**2 + 0.4**2 + 0.2**2)
    assert bottleneck.skip_error == pytest.approx(0.6**2 - 0.4**2)
    one = TABLES.bits(np.array([-1], np.int32), np.array([8], np.uint8))
    assert isinstance(bottleneck.sink, BitCounter) and bottleneck.sink.bits == pytest.approx(float(one[0]))
    assert bottleneck.latents.crc == zlib.crc32(np.array([0, 0, -1, 0], "<i2").tobytes())


def test_the_cost_of_skipping_is_that_of_all_stripes_together() -> None:
    stripes = [bottleneck_with(1.0, 0.5), bottleneck_with(3.0, 0.1)]
    assert skip_cost_db(stripes) == pytest.approx(10 * math.log10(1 + 0.6 / 4))
    assert skip_cost_db([bottleneck_with(0.0, 0.0)]) == 0 and skip_cost_db([bottleneck_with(0.0, 1.0)]) > 100


@pytest.mark.parametrize(
    ("decided", "skip_error", "thresholds"),
    [
        (None, 0.0046, [SKIP_SCALE_INDEX]),
        (None, 0.0047, [SKIP_SCALE_INDEX, 0]),
        (0, 0.0, [0]),
        (SKIP_SCALE_INDEX, 9.0, [SKIP_SCALE_INDEX]),
    ],
)
def test_latents_are_sent_again_only_where_skipping_costs_a_fiftieth_of_a_db(
    decided: int | None, skip_error: float, thresholds: list[int]
) -> None:
    sent = []

    def send(skip_below: int) -> list[EncodeBottleneck]:
        sent.append(bottleneck_with(1.0, skip_error, skip_below))
        return sent[-1:]

    assert try_skipping(send, decided) == sent[-1:]
    assert [bottleneck.skip_below for bottleneck in sent] == thresholds


def test_integers_get_the_shape_and_the_dtype_of_the_latents() -> None:
    for dtype in (torch.float32, torch.float64):
        found = to_tensor(np.arange(6, dtype=np.int32), torch.zeros(1, 2, 3, dtype=dtype))
        assert found.dtype == dtype and found.tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_a_digest_is_that_of_all_symbols_as_int16_and_goes_on_over_stripes() -> None:
    first, second = LatentsDigest(), LatentsDigest()
    third = LatentsDigest(first.sha256)
    for digest in (first, second):
        digest.add(np.array([1, -2], np.int32))
    second.add(np.array([300], np.int32))
    third.add(np.array([300], np.int32))
    assert third.hexdigest() == second.hexdigest() == first.hexdigest()
    assert second.crc == zlib.crc32(b"\x01\x00\xfe\xff\x2c\x01") and third.crc == zlib.crc32(b"\x2c\x01")


def test_a_decoder_reads_the_elements_that_an_encoder_wrote() -> None:
    """Those with an index of exactly the threshold are coded."""
    scale_index = torch.tensor([7.0, 8.0, 8.0, 9.0]).double().reshape(1, 4, 1, 1)
    valid = torch.tensor([True, True, False, True]).reshape(1, 4, 1, 1)
    elements = Elements(torch.full_like(scale_index, 0.5), scale_index, valid, torch.arange(4), gaussian_bits)
    writer = EncodeBottleneck(SymbolWriter(), TABLES, TABLES, SKIP_SCALE_INDEX)
    sent = writer.send_y(torch.tensor([0.5, 1.5, 9.0, -1.5]).double().reshape(1, 4, 1, 1), elements)
    assert isinstance(writer.sink, SymbolWriter)
    reader = DecodeBottleneck(TABLES, TABLES, SKIP_SCALE_INDEX, writer.sink.finish())
    assert sent.flatten().tolist() == [0.5, 1.5, 0.5, -1.5] and torch.equal(reader.send_y(None, elements), sent)
    reader.reader.finish()
    assert reader.latents.hexdigest() == writer.latents.hexdigest()
