"""Whether one edit of a ShapesWorld scene succeeded, and whether it is drawn sharply."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from editkit.shapesworld.render import CELL

INSIDE, OUTSIDE = 0.075, 0.04
DIFFERENT, GROWN = 0.125, 2
WRONG, WRONG_CELLS = 0.2, 4
REFERENCE_CATEGORIES = ("style reference", "character reference")

Pixels = NDArray[np.float32]
Plane = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The distance of an edit to the true answer, for pixels in [0, 1].

    Attributes:
        inside: mean absolute error over the pixels that the edit changes.
        outside: mean absolute error over the rest.
        success: both errors within ShapesWorld's limits: the edit was made.
        sharp: at most four of the picture's cells have a wrong colour: the edit was made well.
    """

    inside: float
    outside: float
    success: bool
    sharp: bool


def changed(source_HWC: Pixels, answer_HWC: Pixels) -> Plane:
    """C of the specification: pixels that the edit changes, grown by two."""
    differs_HW = (np.abs(answer_HWC - source_HWC) > DIFFERENT).any(-1)
    grown = F.max_pool2d(
        torch.from_numpy(differs_HW)[None, None].float(), 2 * GROWN + 1, stride=1, padding=GROWN
    )
    return grown[0, 0].numpy() > 0


def wrong_cells(answer_HWC: Pixels, edited_HWC: Pixels) -> int:
    """Cells whose mean colour is further than 0.2 from the true one in any channel."""
    height, width, channels = answer_HWC.shape
    error_HWC = (edited_HWC - answer_HWC).reshape(height // CELL, CELL, width // CELL, CELL, channels)
    return int((np.abs(error_HWC.mean((1, 3))) > WRONG).any(-1).sum())


def score(source_HWC: Pixels, answer_HWC: Pixels, edited_HWC: Pixels, category: str) -> Score:
    """Compare an edit with the true answer.

    A copy of the source, or a missing object, succeeds only where it is near the answer in shape or colour.

    Against a reference the source is no picture of the same place, so that the answer's own background, which
    its corner shows, stands for what was there before.
    """
    before_HWC = source_HWC
    if category in REFERENCE_CATEGORIES:
        before_HWC = np.broadcast_to(answer_HWC[0, 0], answer_HWC.shape)
    error_HW = np.abs(edited_HWC - answer_HWC).mean(-1)
    inside_HW = changed(before_HWC, answer_HWC)
    inside = float(error_HW[inside_HW].mean()) if inside_HW.any() else 0.0
    outside = float(error_HW[~inside_HW].mean()) if (~inside_HW).any() else 0.0
    return Score(
        inside=inside,
        outside=outside,
        success=inside <= INSIDE and outside <= OUTSIDE,
        sharp=wrong_cells(answer_HWC, edited_HWC) <= WRONG_CELLS,
    )
