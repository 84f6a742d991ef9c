"""Write the sample photographs that scikit-image's wheel carries: FOLDER/train and FOLDER/test, as PNG.

python scripts/samples.py samples
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image
from skimage import data

SAMPLES: dict[str, Callable[[], NDArray[Any]]] = {
    "train/astronaut.png": data.astronaut,
    "train/chelsea.png": data.chelsea,
    "train/rocket.png": data.rocket,
    "train/motorcycle_left.png": lambda: data.stereo_motorcycle()[0],
    "test/coffee.png": data.coffee,
}


def main(folder: Path) -> None:
    for name, load in SAMPLES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.fromarray(load()).save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
