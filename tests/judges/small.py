"""A small judge, and a case to judge."""

from __future__ import annotations

from editkit.judges import Case
from tests.pictures import image

WORDS = "make the red circle blue"

SMALL = {"vision_width": 32, "vision_layers": 1, "width": 32, "layers": 1, "head": 16}


def case(source: bool = True) -> Case:
    return Case(source=image(96, 64) if source else None, instruction=WORDS)
