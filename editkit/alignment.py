"""How far a picture is shifted and scaled against another, measured block by block.

Blocks in which an edit changed something disagree with the rest, and medians do not mind them.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from editkit import canvas

BLOCKS = 5
"""Blocks along each side, each a third of it and overlapping."""
SHARE = 3
TEXTURE = 0.01
"""Least deviation of a block's gray that says anything about where it is."""
PEAK = 0.1
"""Least height of a correlation's peak, of 1 for equal blocks."""
FEWEST = 6
"""Blocks that must be comparable, and agree."""
FOR_SCALE = 12
"""Blocks without which a slope could be the edit's."""
AGREE, MOST = 0.75, 0.6
"""How near to the common motion, in pixels, how many of the blocks have to be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """Where things of the first picture are in the second.

    Attributes:
        right: shift in pixels.
        down: likewise.
        wider: scale across, 1 where there is none.
        taller: likewise.
        blocks: how many could be compared.
    """

    right: float
    down: float
    wider: float
    taller: float
    blocks: int

    @property
    def shift(self) -> float:
        """Length of the shift in pixels."""
        return math.hypot(self.right, self.down)


def measure(first_1CHW: Tensor, second_1CHW: Tensor) -> Alignment | None:
    """Compare two pictures of one size, pixels in [0, 1].

    None where there is too little to see in them, or where their blocks contradict each other.
    """
    first_HW, second_HW = (canvas.gray(picture)[0, 0] for picture in (first_1CHW, second_1CHW))
    height, width = first_HW.shape
    tall, wide = max(8, height // SHARE), max(8, width // SHARE)
    if tall > height or wide > width:
        return None
    found = []
    for row in range(BLOCKS):
        for column in range(BLOCKS):
            top, left = (height - tall) * row // (BLOCKS - 1), (width - wide) * column // (BLOCKS - 1)
            cut = slice(top, top + tall), slice(left, left + wide)
            moved = _shift(first_HW[cut], second_HW[cut])
            if moved is not None:
                found.append((left + wide / 2, top + tall / 2, *moved))
    if len(found) < FEWEST:
        return None
    x, y, right, down = (list(values) for values in zip(*found, strict=True))
    slopes = [_slope(x, right), _slope(y, down)] if len(found) >= FOR_SCALE else [0.0, 0.0]
    middle = _median(right), _median(down)
    agreeing = sum(
        abs(shift_x - middle[0] - slopes[0] * (at_x - _median(x))) < AGREE
        and abs(shift_y - middle[1] - slopes[1] * (at_y - _median(y))) < AGREE
        for at_x, at_y, shift_x, shift_y in found
    )
    if agreeing < max(FEWEST, MOST * len(found)):
        return None
    return Alignment(
        right=middle[0],
        down=middle[1],
        wider=1 + slopes[0],
        taller=1 + slopes[1],
        blocks=len(found),
    )


def _shift(first_HW: Tensor, second_HW: Tensor) -> tuple[float, float] | None:
    """By phase correlation under a Hann window, to a part of a pixel by a parabola through the peak."""
    if min(float(first_HW.std()), float(second_HW.std())) < TEXTURE:
        return None
    height, width = first_HW.shape
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)[None]
    spectra = [torch.fft.rfft2((block - block.mean()) * window) for block in (first_HW, second_HW)]
    cross = spectra[1] * spectra[0].conj()
    # Whitened only in part: flat pictures have few frequencies, and the rest is noise.
    correlation_HW = torch.fft.irfft2(cross / cross.abs().clamp(min=1e-9).sqrt(), s=(height, width))
    energy = float((spectra[0].abs() * spectra[1].abs()).sqrt().mean())
    place = int(correlation_HW.argmax())
    row, column = divmod(place, width)
    if float(correlation_HW[row, column]) < PEAK * energy:
        return None
    down = row + _vertex(correlation_HW[:, column], row)
    right = column + _vertex(correlation_HW[row], column)
    return _centred(right, width), _centred(down, height)


def _vertex(line: Tensor, place: int) -> float:
    before, here, after = (float(line[(place + step) % len(line)]) for step in (-1, 0, 1))
    bend = before - 2 * here + after
    return 0.0 if bend == 0 else 0.5 * (before - after) / bend


def _centred(shift: float, size: int) -> float:
    return shift - size if shift > size / 2 else shift


def _median(values: list[float]) -> float:
    return float(torch.tensor(values).median())


def _slope(places: list[float], shifts: list[float]) -> float:
    """Theil and Sen's: the median over all pairs."""
    pairs = combinations(zip(places, shifts, strict=True), 2)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs if abs(b[0] - a[0]) > 1]
    return _median(slopes) if slopes else 0.0
