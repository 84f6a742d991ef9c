from pathlib import Path

import hostile
import pytest

CORPUS = sorted((Path(__file__).parent / "corpus").glob("[!.]*"))
MUTANTS = 360
MAX_PIXELS = 1 << 16


@pytest.fixture(scope="module")
def targets() -> hostile.Targets:
    return hostile.Targets(MAX_PIXELS)


@pytest.mark.parametrize("name", ["container", "decoder", "latents", "salvage", "picture", "model"])
def test_whole_files_pass_and_their_checksums_are_right(targets: hostile.Targets, name: str) -> None:
    assert set(targets.by_name) == set(hostile.seeds())
    for data in hostile.seeds()[name]:
        assert not hostile.fault_of(targets.by_name[name], data)
        if name != "picture":  # some of them have wrong ones
            assert hostile.made_right(data) == data


def test_mutants_give_pictures_or_errors_of_one_line(targets: hostile.Targets) -> None:
    for number in range(MUTANTS):
        name, data = hostile.mutant_of(number)
        assert not hostile.fault_of(targets.by_name[name], data), f"{name}, mutant {number}"


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_the_fuzzer_found_is_mended(targets: hostile.Targets, path: Path) -> None:
    data = path.read_bytes()
    name = list(targets.by_name)[data[0] % len(targets.by_name)]
    assert not hostile.fault_of(targets.by_name[name], data[1:])


def test_a_mutant_is_made_again_by_its_number() -> None:
    assert [hostile.mutant_of(number) for number in range(24)] == [hostile.mutant_of(number) for number in range(24)]


@pytest.mark.parametrize(
    "error", [ValueError("wrong"), KeyError(1), MemoryError(), hostile.AttncodecError("two\nlines"), RecursionError()]
)
def test_what_is_no_error_of_one_line_is_a_fault(error: Exception) -> None:
    def fails(data: bytes) -> None:
        raise error

    assert hostile.fault_of(fails, b"")
    assert not hostile.fault_of(len, b"")


def test_damage_behind_right_checksums_reaches_the_decoder(targets: hostile.Targets) -> None:
    """A fifth of the mutants or more should come further than a checksum, or the others would test nothing."""
    numbers = [number for number in range(MUTANTS) if number % 6 == 2 and number // 6 % 2]  # latents, made right
    passed = 0
    for number in numbers:
        name, data = hostile.mutant_of(number)
        try:
            targets.by_name[name](data)
        except hostile.AttncodecError:
            continue
        passed += 1
    assert passed > len(numbers) / 5
