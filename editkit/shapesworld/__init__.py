"""ShapesWorld: a procedural world of 128x128 pictures with exact ground truth for every edit."""

from editkit.shapesworld.edits import (
    CATEGORIES,
    HELD_OUT,
    KINDS,
    ON_SCENE,
    TRAINING_START,
    Example,
    example,
    session,
    words,
)
from editkit.shapesworld.masked import MASKED, MaskedExample, masked_example
from editkit.shapesworld.open import OPEN, OpenExample, open_example
from editkit.shapesworld.render import SIZE, render
from editkit.shapesworld.world import Scene, Thing, draw_scene

__all__ = [
    "CATEGORIES",
    "HELD_OUT",
    "KINDS",
    "MASKED",
    "ON_SCENE",
    "OPEN",
    "SIZE",
    "TRAINING_START",
    "Example",
    "MaskedExample",
    "OpenExample",
    "Scene",
    "Thing",
    "draw_scene",
    "example",
    "masked_example",
    "open_example",
    "render",
    "session",
    "words",
]
