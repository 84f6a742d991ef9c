"""Fill the figures into README.md and docs/: every table comes from files under results/, or from the code itself.

    python scripts/fill_pages.py [--check]

A page marks a place by `<!-- figures: NAME -->` and `<!-- end -->`. What stands between the two is replaced by what
FIGURES[NAME] of figures.py makes of its files, with the command and the commit that measured them. With --check nothing
is written, and the exit code is 1 where a page is stale.
"""

import argparse
import re
import sys
from pathlib import Path

from figures import FIGURES, table

ROOT = Path(__file__).absolute().parent.parent
PLACE = re.compile(r"(<!-- figures: ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return a page with its figures as they are now."""

    def fill(place: re.Match[str]) -> str:
        name, _, argument = place[2].partition(" ")
        return place[1] + (table(argument) if name == "table" else FIGURES[name]()) + place[3]

    return PLACE.sub(fill, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        before = page.read_text(encoding="utf-8")
        if (after := filled(before)) != before:
            stale.append(page)
            if not options.check:
                page.write_text(after, encoding="utf-8")
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'stale' if options.check else 'filled'}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
