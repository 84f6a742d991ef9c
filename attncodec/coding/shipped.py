"""This module locates the models that come with the package."""

from pathlib import Path

FOLDER = Path(__file__).parent.parent / "weights"


def shipped(name: str = "default") -> Path:
    """Return the path of the shipped model file with this name."""
    return FOLDER / f"{name}.safetensors"
