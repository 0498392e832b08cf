"""Scene to pixels: drawn at four times the size, then reduced by a box filter."""

import math

import numpy as np
from numpy.typing import NDArray

from editkit.imaging.color import LUMA
from editkit.shapesworld.world import COLOURS, Scene, Thing

SIZE = 128
OVERSAMPLE = 4
STROKE = 0.16
STRIPE_PERIOD = 0.09

Mask = NDArray[np.bool_]
Plane = NDArray[np.float64]

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

_STAR = tuple(
    (radius * math.sin(math.pi * k / 5), -radius * math.cos(math.pi * k / 5))
    for k, radius in enumerate((1.0, 0.45) * 5)
)
# Corners in units of r about the centre, y down.
POLYGONS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "triangle": ((0.0, -1.0), (1.0, 0.8), (-1.0, 0.8)),
    "star": _STAR,
    "cross": (
        (-0.3, -1.0), (0.3, -1.0), (0.3, -0.3), (1.0, -0.3), (1.0, 0.3), (0.3, 0.3),
        (0.3, 1.0), (-0.3, 1.0), (-0.3, 0.3), (-1.0, 0.3), (-1.0, -0.3), (-0.3, -0.3),
    ),
    "diamond": ((0.0, -1.0), (0.75, 0.0), (0.0, 1.0), (-0.75, 0.0)),
}  # fmt: skip


def _polygon(
    u: Plane, v: Plane, corners: tuple[tuple[float, float], ...], *, edges: bool
) -> tuple[Mask, Plane]:
    inside = np.zeros(u.shape, dtype=bool)
    distance = np.full(u.shape, np.inf)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if ay != by:
            inside ^= ((v < ay) != (v < by)) & (u < ax + (v - ay) * (bx - ax) / (by - ay))
        if edges:
            dx, dy = bx - ax, by - ay
            along = np.clip(((u - ax) * dx + (v - ay) * dy) / (dx * dx + dy * dy), 0, 1)
            distance = np.minimum(distance, np.hypot(u - ax - along * dx, v - ay - along * dy))
    return inside, distance


def _shape(u: Plane, v: Plane, shape: str, *, edges: bool) -> tuple[Mask, Plane]:
    """Inside mask and, where asked for, the distance to the edge, both in units of r."""
    if shape in POLYGONS:
        return _polygon(u, v, POLYGONS[shape], edges=edges)
    depth = 1 - np.hypot(u, v)
    if shape == "ring":
        depth = np.minimum(depth, 0.4 - depth)
    elif shape == "crescent":
        depth = np.minimum(depth, np.hypot(u - 0.45, v + 0.2) - 0.8)
    return depth >= 0, np.abs(depth)


def _paint(canvas_HWC: NDArray[np.uint8], thing: Thing, style: str) -> None:
    side = canvas_HWC.shape[0]
    low_x, high_x, low_y, high_y = (
        min(max(round((centre + sign * thing.r * 1.02) * side), 0), side)
        for centre in (thing.x, thing.y)
        for sign in (-1, 1)
    )
    x = ((np.arange(low_x, high_x) + 0.5) / side)[None, :]
    y = ((np.arange(low_y, high_y) + 0.5) / side)[:, None]
    u, v = np.broadcast_arrays((x - thing.x) / thing.r, (y - thing.y) / thing.r)
    painted, distance = _shape(u, v, thing.shape, edges=style == "outline")
    if style == "outline":
        painted = painted & (distance <= STROKE)
    elif style == "stripes":
        painted = painted & ((x + y) % STRIPE_PERIOD < STRIPE_PERIOD / 2)
    box_HWC = canvas_HWC[low_y:high_y, low_x:high_x]
    box_HWC[painted] = COLOURS[thing.colour]
    if thing.letter:
        column, row = np.floor(u / 0.22 + 1.5).astype(int), np.floor(v / 0.22 + 2.5).astype(int)
        on_glyph = (column >= 0) & (column < 3) & (row >= 0) & (row < 5)
        bits = np.array(GLYPHS[thing.letter])[row.clip(0, 4)] >> (2 - column.clip(0, 2)) & 1
        box_HWC[on_glyph & (bits == 1)] = COLOURS[thing.letter_colour]


def render(scene: Scene, size: int = SIZE) -> NDArray[np.uint8]:
    """Draw a scene as an RGB picture, uint8, shape (size, size, 3)."""
    side = size * OVERSAMPLE
    canvas_HWC = np.empty((side, side, 3), dtype=np.uint8)
    canvas_HWC[:] = COLOURS[scene.background]
    for thing in scene.things:
        _paint(canvas_HWC, thing, scene.style)
    # Summing strided slices is several times faster than a reshape and a sum over two axes.
    wide_HWC = np.zeros((size, side, 3), dtype=np.uint16)
    sum_HWC = np.zeros((size, size, 3), dtype=np.uint16)
    for k in range(OVERSAMPLE):
        wide_HWC += canvas_HWC[k::OVERSAMPLE]
    for k in range(OVERSAMPLE):
        sum_HWC += wide_HWC[:, k::OVERSAMPLE]
    picture_HWC: Plane = sum_HWC / OVERSAMPLE**2
    if scene.style == "gray":
        picture_HWC = (picture_HWC @ LUMA)[..., None].repeat(3, axis=-1)
    return np.round(picture_HWC).astype(np.uint8)
