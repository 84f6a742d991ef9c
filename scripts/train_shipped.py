"""Train a shipped model by the committed recipe, in parts of any length, measure it, and install it.

    scripts/train_shipped PICTURES KODAK [--networks default] [--minutes 30] [KEY=VALUE ...]

The recipe is the configuration `shipped`. The networks are those of the configuration NETWORKS, grown from the model
that is shipped now, so the command continues its lineage, and never repeats it. `train.budget=3h` sets another budget,
and any other KEY=VALUE works in the same way. A GPU is used if there is one. With --minutes the run stops after that
many minutes, loading included, and is saved. The same command continues it, even if it was interrupted after the
training. Once the budget is spent,

    1. the sealed model is compared with the one that is shipped now, on the pictures that the run held out; if it is no
       better, nothing is changed;
    2. it is measured on KODAK, as `attncodec eval` does it, on flat graphics and on text;
    3. attncodec/weights/NETWORKS.safetensors, its model card attncodec/weights/NETWORKS.md (scripts/model_card.py), and
       results/shipped (results/shipped_large for the large networks) are replaced, all or none of them.

The licence of the weights follows from those of all pictures that they descend from. PICTURES/MANIFEST.csv gives them,
one line for a picture: the columns `file` (its name relative to PICTURES) and `licence`, and `source` and `author` for
credit. A picture that it does not list has an unknown licence, and then the weights have, too.

Exit codes: 0 the model was installed, or it is installed already, or the --minutes are over and the same command goes
on with the next part; 1 the new model is no better, and nothing was changed; 2 it could not be done as asked, and
nothing was changed; 130 it was interrupted, and the same command continues it.
"""

import argparse
import math
import re
import sys
from pathlib import Path
from typing import NoReturn

from attncodec.console import INTERRUPTED, REFUSED, as_user_error, end_as_ctrl_c_does, fail, log_to_stderr, say
from attncodec.errors import AttncodecError, ConfigError

HELP = "scripts/train_shipped --help says what it accepts"
OPTIONS = {"--networks", "--minutes", "--run", "--help"}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and a hint, as those of attncodec."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(message, HELP)


def positive(text: str) -> float:
    """Parse a number of minutes."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes above 0")
    return number


def parse() -> argparse.Namespace:
    """Parse the command line. Paths become absolute, because the work is done in the root of the repository."""
    parser = Parser("scripts/train_shipped", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of pictures to train on")
    parser.add_argument("kodak", type=Path, help="folder of pictures that are only measured")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--networks", choices=("default", "large"), default="default")
    parser.add_argument(
        "--minutes", type=positive, help="length of this part; all that is left of the budget by default"
    )
    parser.add_argument("--run", type=Path, help="run folder; runs/shipped-NETWORKS by default")
    options = parser.parse_intermixed_args()
    for name in ("pictures", "kodak", "run"):
        if getattr(options, name):
            setattr(options, name, getattr(options, name).absolute())
    return options


def with_own_hint(error: AttncodecError) -> AttncodecError:
    """Replace a hint that is about another command, or names options that this script does not have."""
    if error.hint == AttncodecError.default_hint:
        return AttncodecError(str(error), HELP)
    if set(re.findall(r"--[a-z][a-z-]*", error.hint)) <= OPTIONS:
        return error
    return AttncodecError(str(error), "--run FOLDER starts a run in another folder, and leaves this one as it is")


def main() -> int:
    end_as_ctrl_c_does()
    try:
        options = parse()
        log_to_stderr()
        from shipping import ship  # It imports torch, and --help should answer at once.

        return ship(options)
    except KeyboardInterrupt:
        say("interrupted; the same command continues")
        return INTERRUPTED
    except (AttncodecError, OSError, MemoryError) as error:
        fail(with_own_hint(as_user_error(error)))
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
