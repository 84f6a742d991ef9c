import torch
from conftest import photo

from attncodec.coding.bottlenecks import BitCounter, EncodeBottleneck
from attncodec.coding.sealed import SealedCodec
from attncodec.coding.stripes import PictureRows, StripeRows, send_all, stripe_rows, stripe_sender
from attncodec.pictures import pad_edges, to_tensor


def test_stripes_have_their_units_and_the_last_one_has_the_rows_that_are_left() -> None:
    assert stripe_rows(1, 1) == [slice(0, 1)]
    assert stripe_rows(128, 1) == [slice(0, 4), slice(4, 8)]
    assert stripe_rows(129, 1) == [slice(0, 4), slice(4, 8), slice(8, 9)]
    assert stripe_rows(300, 2) == [slice(0, 8), slice(8, 16), slice(16, 19)]


def test_a_stripe_gets_its_own_rows_of_y_and_of_z(sealed: SealedCodec) -> None:
    """The latents of a stripe are those of a picture that consists of its rows alone."""
    with torch.inference_mode():
        y = sealed.codec.encode(to_tensor(photo(150, 70)), torch.tensor([100]))
        z = torch.randn(1, 16, 3, 2, generator=torch.Generator().manual_seed(0)) * 4
        bottlenecks = [EncodeBottleneck(BitCounter(), sealed.z_tables, sealed.y_tables, 0) for _ in range(4)]
        rows = [slice(0, 4), slice(4, 8), slice(8, 10)]
        whole = send_all(
            stripe_sender(sealed.codec, bottlenecks.__getitem__, 100, rows, lambda part: y[..., part, :], z), rows
        )
        alone = sealed.codec.transmit(bottlenecks[3], torch.tensor([100]), y[..., 8:10, :], z[..., 2:3, :])
    assert whole.shape == y.shape and torch.equal(whole[..., 8:, :], alone)
    assert bottlenecks[2].latents.crc == bottlenecks[3].latents.crc != bottlenecks[1].latents.crc


def test_spans_across_stripes_send_each_stripe_once() -> None:
    sent, rows = list[int](), [slice(0, 4), slice(4, 8), slice(8, 10)]
    y_hat = torch.randn(1, 3, 10, 2, generator=torch.Generator().manual_seed(0))

    def send(number: int) -> torch.Tensor:
        sent.append(number)
        return y_hat[..., rows[number], :]

    stripes = StripeRows(send, rows)
    for span in (slice(0, 3), slice(3, 9), slice(9, 10)):
        assert torch.equal(stripes.rows(span), y_hat[..., span, :])
    assert sent == [0, 1, 2] and stripes.height == 10


def test_the_rows_of_a_picture_are_padded_as_the_whole_picture_is() -> None:
    for size in ((1, 1), (17, 300), (48, 31), (64, 64)):
        rgb = photo(*size)
        whole = pad_edges(to_tensor(rgb), 16)
        rows = PictureRows(rgb)
        assert rows.height == whole.shape[2]
        for span in (slice(0, whole.shape[2]), slice(whole.shape[2] - 4, whole.shape[2])):
            assert torch.equal(rows.rows(span), whole[..., span, :])
