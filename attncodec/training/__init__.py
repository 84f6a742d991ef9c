"""This package trains a model on a folder of pictures."""
