"""Scene to pixels: 32x32 cells of one colour each, enlarged without smoothing."""

from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from editkit.imaging.color import LUMA
from editkit.shapesworld.world import COLOURS, Scene, Thing

CELLS, CELL = 32, 4
"""Cells across a picture, pixels across a cell."""
SIZE = CELLS * CELL
STRIPE_PERIOD = 4

Picture = NDArray[np.uint8]
Plane = NDArray[np.bool_]

# Usual 3x5 bitmaps, rows from the top, most significant bit on the left.
GLYPHS = {
    "A": (0b010, 0b101, 0b111, 0b101, 0b101),
    "E": (0b111, 0b100, 0b110, 0b100, 0b111),
    "H": (0b101, 0b101, 0b111, 0b101, 0b101),
    "K": (0b101, 0b101, 0b110, 0b101, 0b101),
    "L": (0b100, 0b100, 0b100, 0b100, 0b111),
    "T": (0b111, 0b010, 0b010, 0b010, 0b010),
    "X": (0b101, 0b101, 0b010, 0b101, 0b101),
    "Z": (0b111, 0b001, 0b010, 0b100, 0b111),
}


@lru_cache(maxsize=1)
def bitmaps() -> dict[tuple[str, int], tuple[Plane, Plane]]:
    """Every shape filled and outlined, by name and size in cells."""
    found = {}
    for block in files(__package__).joinpath("shapes.txt").read_text().strip().split("\n\n"):
        title, *rows = block.splitlines()
        name, size = title.split()
        sides = zip(*(row.split() for row in rows), strict=True)
        filled, outlined = (np.array([list(row) for row in side]) == "#" for side in sides)
        found[name, int(size)] = filled, outlined
    return found


def _paint(cells_HWC: Picture, thing: Thing, style: str) -> None:
    filled, outlined = bitmaps()[thing.shape, thing.size]
    half = thing.size // 2
    rows, columns = (slice(centre - half, centre + half + 1) for centre in (thing.y, thing.x))
    painted = outlined if style == "outline" else filled
    if style == "stripes":
        y, x = np.ogrid[rows, columns]
        painted = painted & ((x + y) % STRIPE_PERIOD < STRIPE_PERIOD // 2)
    cells_HWC[rows, columns][painted] = COLOURS[thing.colour]
    if thing.letter:
        bits = np.array(GLYPHS[thing.letter])[:, None] >> np.array([2, 1, 0]) & 1
        middle_HWC = cells_HWC[thing.y - 2 : thing.y + 3, thing.x - 1 : thing.x + 2]
        middle_HWC[bits == 1] = COLOURS[thing.letter_colour]


def cells(scene: Scene) -> Picture:
    """A scene's cells as RGB, uint8, shape (32, 32, 3)."""
    cells_HWC = np.empty((CELLS, CELLS, 3), dtype=np.uint8)
    cells_HWC[:] = COLOURS[scene.background]
    for thing in scene.things:
        _paint(cells_HWC, thing, scene.style)
    if scene.style == "gray":
        cells_HWC[:] = np.round(cells_HWC @ LUMA)[..., None]
    return cells_HWC


def enlarged(cells_HWC: Picture, size: int = SIZE) -> Picture:
    """Cells as a picture of `size` pixels across, a multiple of 32.

    Raises:
        ValueError: for another size.
    """
    scale, rest = divmod(size, CELLS)
    if rest:
        raise ValueError(f"size must be a multiple of {CELLS} pixels, not {size}")
    return cells_HWC.repeat(scale, 0).repeat(scale, 1)


def render(scene: Scene, size: int = SIZE) -> Picture:
    """Draw a scene as an RGB picture, uint8, shape (size, size, 3); size is a multiple of 32."""
    return enlarged(cells(scene), size)
