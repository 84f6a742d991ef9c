"""Look for bytes on which a reader of strangers' files fails, guided by coverage. It needs atheris.

    python tests/fuzz/fuzz.py [options of libFuzzer, such as -max_total_time=60]

The first byte of an input chooses the target (scripts/hostile.py), and the rest is the file. An input on which a target
raises anything but an AttncodecError of one line, takes more than 10 seconds, or needs more than 4 GiB is written to
tests/fuzz/corpus, whose files test_fuzz_targets.py then reads on every run of the tests. What reaches new code is kept
in a temporary folder for the next run.
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris
import torch

ROOT = Path(__file__).parent.parent.parent
FOUND = Path(__file__).parent / "corpus"
KEPT = Path(tempfile.gettempdir()) / f"attncodec-fuzz-{os.getuid()}"
# In 20 minutes atheris itself comes to need 2 GiB.
LIMITS = ("-timeout=10", "-rss_limit_mb=4096", "-max_len=65536", f"-artifact_prefix={FOUND}/")
MAX_PIXELS = 1 << 16  # Larger pictures only make it slow; scripts/check_hostile.py has them.

sys.path.insert(0, str(ROOT / "scripts"))
with atheris.instrument_imports(include=["attncodec"]):
    import hostile

TARGETS = hostile.Targets(MAX_PIXELS)
NAMES = list(TARGETS.by_name)


def read_one(data: bytes) -> None:
    """Give a target the bytes of a file."""
    name = NAMES[data[0] % len(NAMES)] if data else NAMES[0]
    if fault := hostile.fault_of(TARGETS.by_name[name], data[1:]):
        raise RuntimeError(f"{name}: {fault}")


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Mutate an input, and make its checksums right every second time."""
    mutated: bytes = atheris.Mutate(data, max_size)
    return mutated if seed % 2 else (mutated[:1] + hostile.made_right(mutated[1:]))[:max_size]


def main() -> None:
    torch.set_num_threads(1)
    corpus, seeds = KEPT / "corpus", KEPT / "seeds"
    for folder in (corpus, seeds, FOUND):
        folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        for index, data in enumerate(hostile.seeds()[name]):
            (seeds / f"{name}-{index}").write_bytes(bytes([number]) + data)
    folders = map(str, (corpus, seeds, FOUND))
    atheris.Setup([sys.argv[0], *folders, *LIMITS, *sys.argv[1:]], read_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
