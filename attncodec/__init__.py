"""attncodec: train, measure and use learned image codecs with attention."""

__version__ = "0.1.0"
