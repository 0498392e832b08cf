"""Which pictures the embedded backbone knows: ShapesWorld's flat drawings."""

import numpy as np
from numpy.typing import NDArray

SIDE = 128
"""Pixels of a drawing's sides."""
COLOURS = 12
"""Kinds of colours that nine tenths of a drawing have at most. The world's need 4; noise may split one."""
COVERED = 0.9
BITS = 4
"""Bits of each channel that tell kinds of colours apart."""


def remarks(backbone: str, picture_HW3: NDArray[np.uint8]) -> list[str]:
    """What a person should know before a picture (levels of 255) is edited; nothing on a flat drawing."""
    found = colours(picture_HW3)
    if found <= COLOURS:
        return []
    height, width, _ = picture_HW3.shape
    size = f"is {width}x{height} and " if (height, width) != (SIDE, SIDE) else ""
    return [
        f"The picture {size}has {found} kinds of colours, as photographs have; the backbone {backbone!r} "
        f"knows ShapesWorld's flat drawings of {SIDE}x{SIDE} pixels alone, and spoils others. "
        f"For photographs use the backbone 'flux1-dev'."
    ]


def colours(picture_HW3: NDArray[np.uint8]) -> int:
    """How many kinds of colours cover nine tenths of a picture."""
    coarse_HW3 = (picture_HW3 >> (8 - BITS)).astype(np.uint16)
    codes_HW = coarse_HW3 @ np.array([1, 1 << BITS, 1 << 2 * BITS], dtype=np.uint16)
    counts = np.sort(np.bincount(codes_HW.ravel()))[::-1]
    return int(np.searchsorted(np.cumsum(counts), COVERED * codes_HW.size)) + 1
