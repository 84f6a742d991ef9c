"""Pictures between files, 8 bits and floats."""

from attncodec.pictures.folders import SUFFIXES, find_pictures, is_picture
from attncodec.pictures.metadata import GPS_NOTE
from attncodec.pictures.picture import RGB, Picture, Plane
from attncodec.pictures.reading import (
    decode_picture,
    decode_rgb,
    from_image,
    picture_size,
    read_picture,
    read_rgb,
    stripped,
)
from attncodec.pictures.region import Region, parse_region
from attncodec.pictures.tensors import pad_edges, to_rgb, to_tensor, to_uint8
from attncodec.pictures.writing import check_suffix, encode_picture, encode_rgb, save_picture, to_image

__all__ = [
    "GPS_NOTE",
    "RGB",
    "SUFFIXES",
    "Picture",
    "Plane",
    "Region",
    "check_suffix",
    "decode_picture",
    "decode_rgb",
    "encode_picture",
    "encode_rgb",
    "find_pictures",
    "from_image",
    "is_picture",
    "pad_edges",
    "parse_region",
    "picture_size",
    "read_picture",
    "read_rgb",
    "save_picture",
    "stripped",
    "to_image",
    "to_rgb",
    "to_tensor",
    "to_uint8",
]
