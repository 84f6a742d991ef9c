"""Small ICC profiles for tests and checks: display spaces by their primaries and gamma, and inks that mix by a rule."""

import struct

import numpy as np
from numpy.typing import NDArray

D50 = (0.9642, 1.0, 0.8249)
# From linear RGB to XYZ, adapted to D50 as ICC asks: a row for each of X, Y and Z.
DISPLAY_P3 = ((0.5151, 0.2920, 0.1571), (0.2412, 0.6922, 0.0666), (-0.0011, 0.0419, 0.7841))
ADOBE_RGB = ((0.6097, 0.2053, 0.1492), (0.3111, 0.6257, 0.0632), (0.0195, 0.0609, 0.7446))
HEADER_BYTES = 128
GRID = 9  # points of each ink


def display_profile(to_xyz: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    """Make a profile of RGB from its matrix to XYZ at D50 and one gamma for all channels."""
    columns = zip(*to_xyz, strict=True)
    tags = {kind: _xyz(*column) for kind, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _gamma_curve(gamma))
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | curves)


def grey_profile(gamma: float) -> bytes:
    """Make a profile of grey with one gamma."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma_curve(gamma)})


def ink_profile() -> bytes:
    """Make a profile of CMYK whose inks filter light one after the other, on a grid as fine as those of presses."""
    filters = np.array([[0.02, 0.45, 0.75], [0.80, 0.02, 0.25], [0.95, 0.85, 0.02], [0.03, 0.03, 0.03]])
    amounts = np.stack(np.meshgrid(*[np.linspace(0, 1, GRID)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    linear = np.prod(filters ** (amounts[..., None] * 0.9), axis=1)
    xyz = linear @ np.array(DISPLAY_P3).T / np.array(D50)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    grid = (lab * [2.55, 1, 1] + [0, 128, 128]).round().clip(0, 255).astype(np.uint8).tobytes()
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, GRID, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4 + grid + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"made\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text" + bytes(4) + b"CC0\0", b"wtpt": _xyz(*D50), **tags}
    directory, body = struct.pack(">I", len(tags)), b""
    start = HEADER_BYTES + 4 + 12 * len(tags)
    for name, tag in tags.items():
        directory += name + struct.pack(">II", start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    header = bytes(4) + b"lcms" + struct.pack(">I", 0x02100000) + kind + space + connection + date + b"acsp"
    header = header.ljust(68, b"\0") + _fixed(*D50)
    header = header.ljust(HEADER_BYTES, b"\0")
    return struct.pack(">I", len(header) + len(directory) + len(body)) + header[4:] + directory + body


def _gamma_curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _fixed(*values: float) -> bytes:
    """Pack numbers as ICC does: 16 bits on either side of the point."""
    scaled: NDArray[np.int64] = np.round(np.array(values) * 65536).astype(np.int64)
    return struct.pack(f">{len(values)}i", *scaled.tolist())
