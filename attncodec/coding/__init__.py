"""This package codes latents to bytes and back.

It holds the integer networks, the tables, the range coder, model files, the encoder and the decoder.
"""
