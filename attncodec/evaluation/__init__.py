"""From a model and a folder of pictures to figures measured on real files."""
