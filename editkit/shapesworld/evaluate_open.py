"""Scores edits under open instructions: an edit succeeds where it comes near an answer that fits."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editkit import shapesworld as world
from editkit.shapesworld.scores import Score, score


def nearest(example: world.OpenExample, edited: Image.Image) -> Score:
    """The score against the answer that the edit comes nearest to."""
    pixels_HWC = np.asarray(edited.convert("RGB"), dtype=np.float32) / np.float32(255)
    answers_NHWC = _answers(example)
    place = int(np.abs(answers_NHWC - pixels_HWC).mean((1, 2, 3)).argmin())
    return score(_pixels(example.source), answers_NHWC[place], pixels_HWC, "open")


@lru_cache(maxsize=256)
def _answers(example: world.OpenExample) -> NDArray[np.float32]:
    return np.stack([_pixels(answer) for answer in example.answers])


def _pixels(scene: world.Scene) -> NDArray[np.float32]:
    return world.render(scene).astype(np.float32) / np.float32(255)
