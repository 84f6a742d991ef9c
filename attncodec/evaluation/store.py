"""Figures that cost time are kept in files, one for each, under a digest of all that they depend on.

So an evaluation that was interrupted goes on where it stopped, and what depends on something else is measured again.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from attncodec.coding.tensor_file import canonical_json
from attncodec.environment import has_package
from attncodec.files import write_atomic

CACHE_VARIABLE = "ATTNCODEC_CACHE"


class Store:
    """Keeps JSON objects in a folder by what they depend on. Without a folder it keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, depends_on: dict[str, Any]) -> dict[str, Any] | None:
        """Return what is kept, or None if nothing is, or only a damaged file."""
        if self.folder is None:
            return None
        try:
            found = json.loads(self._path(depends_on).read_text())
            return dict(found["value"]) if found["depends_on"] == depends_on else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, depends_on: dict[str, Any], value: dict[str, Any]) -> None:
        """Keep a JSON object, if the folder can be written."""
        if self.folder is None:
            return
        path = self._path(depends_on)
        with suppress(OSError):  # The figures are there, and are only measured again the next time.
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, (canonical_json({"depends_on": depends_on, "value": value}) + "\n").encode())

    def _path(self, depends_on: dict[str, Any]) -> Path:
        assert self.folder is not None
        digest = hashlib.sha256(canonical_json(depends_on).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}.json"


def user_cache() -> Store:
    """Return the store for what is the same in all evaluations: $ATTNCODEC_CACHE, or the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Store(Path(given))
    if not has_package("platformdirs", "kept figures of classic codecs", "eval"):
        return Store(None)
    from platformdirs import user_cache_path

    return Store(user_cache_path("attncodec") / "classic")
