import contextlib
import time
from dataclasses import replace

import numpy as np
import pytest

from attncodec.container import ALPHA, ICC, Container, Stripe, pack, unpack
from attncodec.errors import ContainerError
from attncodec.salvage import LOST, unpack_damaged

RNG = np.random.default_rng(0)
STRIPES = tuple(Stripe(RNG.bytes(4 * (300 + number)), number, number == 1) for number in range(6))
WHOLE = Container(300, 6 * 64, bytes(8), 96, 1, STRIPES, extras={ALPHA: b"alpha", ICC: b"i" * 300})
DATA = pack(WHOLE)
STARTS = [DATA.index(stripe.latents) for stripe in STRIPES]


def lost_in(container: Container) -> list[int]:
    assert all(stripe in (LOST, WHOLE.stripes[number]) for number, stripe in enumerate(container.stripes))
    return [number for number, stripe in enumerate(container.stripes) if stripe is LOST]


def test_a_whole_file_is_what_it_always_was() -> None:
    assert unpack_damaged(DATA) == (WHOLE, ())


@pytest.mark.parametrize("count", range(1, 6))
def test_a_file_that_is_cut_keeps_the_stripes_before_the_cut(count: int) -> None:
    for end in (STARTS[count], STARTS[count] - 3, STARTS[count] + 600):
        container, notes = unpack_damaged(DATA[:end])
        whole = replace(container, stripes=tuple(LOST if stripe.cut else stripe for stripe in container.stripes))
        assert lost_in(whole) == list(range(count, 6)) and not notes
        assert container.extras == WHOLE.extras


def test_the_stripe_in_whose_middle_a_file_ends_has_its_first_latents() -> None:
    (found,) = [stripe for stripe in unpack_damaged(DATA[: STARTS[2] + 602])[0].stripes if stripe.cut]
    assert found == replace(STRIPES[2], latents=STRIPES[2].latents[:600], latents_crc=found.latents_crc, cut=True)
    assert not any(stripe.cut for stripe in unpack_damaged(DATA[: STARTS[2] + 3])[0].stripes)


@pytest.mark.parametrize("number", range(6))
def test_a_stripe_whose_head_is_damaged_leaves_the_others(number: int) -> None:
    for at, value in ((7, 9), (7, 0xFF), (6, 0xFF), (5, 0x7F), (5, 0x01)):  # its type, and its size twice
        data = bytearray(DATA)
        data[STARTS[number] - at] = value
        try:
            container, _ = unpack_damaged(bytes(data))
        except ContainerError:
            pytest.fail(f"nothing was found behind byte {STARTS[number] - at}")
        kept = [place for place, stripe in enumerate(container.stripes) if stripe == WHOLE.stripes[place]]
        assert set(kept) >= set(range(6)) - {number, number + 1}


def test_bytes_that_are_missing_or_added_leave_the_stripes_around_them() -> None:
    middle = STARTS[2] + 500
    for data in (DATA[:middle] + DATA[middle + 90 :], DATA[:middle] + bytes(77) + DATA[middle:]):
        container, _ = unpack_damaged(data)
        kept = [number for number, stripe in enumerate(container.stripes) if stripe == WHOLE.stripes[number]]
        assert set(kept) >= {0, 1, 4, 5}


def test_a_damaged_section_that_is_no_stripe_is_left_out_with_a_note() -> None:
    data = DATA.replace(b"alpha", b"alphb")
    container, notes = unpack_damaged(data)
    assert container.extras == {ICC: b"i" * 300} and container.stripes == STRIPES
    assert notes == ("its section of type 3 is damaged and was left out",)


def test_damage_within_latents_is_left_to_the_decoder() -> None:
    data = bytearray(DATA)
    data[STARTS[3] + 40] ^= 1
    assert unpack_damaged(bytes(data)) == (unpack(bytes(data)), ())


@pytest.mark.parametrize("data", [b"", b"ATNC", DATA[:10], DATA[: STARTS[0]], DATA[:6] + b"x" + DATA[7:], b"ATNC\x00"])
def test_a_file_of_which_nothing_is_left_is_refused(data: bytes) -> None:
    with pytest.raises(ContainerError):
        unpack_damaged(data)


def test_the_limit_of_pixels_holds_for_damaged_files() -> None:
    with pytest.raises(ContainerError, match="too many"):
        unpack_damaged(DATA[:-1], 1000)


def test_finding_stripes_ends_soon_in_noise_and_in_files_made_to_make_it_slow() -> None:
    header = DATA[: DATA.index(b"alpha") - 6]
    short = b"\x01\x04" + bytes(8)  # it makes sense as a section, wherever another one ends
    for noise in (RNG.bytes(4_000_000), short * 100_000 + b"\x01", b"\x01\x04" * 200_000 + b"\x7f"):
        start = time.process_time()
        with contextlib.suppress(ContainerError):
            unpack_damaged(header + noise)
        assert time.process_time() - start < 5


def test_a_hostile_file_is_not_searched_without_end() -> None:
    """Each of these places looks like the start of a stripe, and none leads to the end."""
    head = pack(replace(WHOLE, extras={}))[: STARTS[0] - 20]
    for body in (b"\1" * 5_000_000, b"\1\4" * 1_000_000):
        start = time.process_time()
        with contextlib.suppress(ContainerError):
            unpack_damaged(head + b"\7" + body + b"\7")
        assert time.process_time() - start < 5
