"""This package measures a model on a folder of pictures. All figures come from real files."""
