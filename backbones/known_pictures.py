"""Tell pictures that the embedded backbone was trained on from others: it knows flat drawings only."""

import numpy as np
from numpy.typing import NDArray

SIDE = 128
"""Sides of the training pictures in pixels."""
COLOURS = 12
"""Largest number of colours that cover nine tenths of a flat drawing. The training pictures have 4; noise may
split one of them."""
COVERED = 0.9
"""Share of the pixels that the counted colours cover."""
BITS = 4
"""Bits of each channel in which colours are compared."""


def remarks(backbone: str, picture_HW3: NDArray[np.uint8]) -> list[str]:
    """Return warnings about a picture (uint8 sRGB) before an edit; none for a flat drawing."""
    found = colours(picture_HW3)
    if found <= COLOURS:
        return []
    height, width, _ = picture_HW3.shape
    size = f"is {width}x{height} and " if (height, width) != (SIDE, SIDE) else ""
    return [
        f"The picture {size}has {found} kinds of colours, as photographs have; the backbone {backbone!r} "
        f"only knows ShapesWorld's flat drawings of {SIDE}x{SIDE} pixels, and spoils others. "
        f"For photographs use the backbone 'flux1-dev'."
    ]


def colours(picture_HW3: NDArray[np.uint8]) -> int:
    """Count the colours, in 4 bits a channel, that cover nine tenths of a picture."""
    coarse_HW3 = (picture_HW3 >> (8 - BITS)).astype(np.uint16)
    codes_HW = coarse_HW3 @ np.array([1, 1 << BITS, 1 << 2 * BITS], dtype=np.uint16)
    counts = np.sort(np.bincount(codes_HW.ravel()))[::-1]
    return int(np.searchsorted(np.cumsum(counts), COVERED * codes_HW.size)) + 1
