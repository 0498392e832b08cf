"""Whether one edit of a ShapesWorld scene succeeded."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

INSIDE, OUTSIDE, REFERENCE_INSIDE = 0.075, 0.04, 0.06
DIFFERENT, GROWN = 0.125, 2
REFERENCE_CATEGORIES = ("style reference", "character reference")

Pixels = NDArray[np.float32]
Plane = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Mean absolute errors to the true answer, pixels in [0, 1].

    Attributes:
        inside: over the pixels that the edit changes.
        outside: over the rest.
        success: both within ShapesWorld's limits.
    """

    inside: float
    outside: float
    success: bool


def changed(source_HWC: Pixels, answer_HWC: Pixels) -> Plane:
    """C of the specification: pixels that the edit changes, grown by two."""
    differs_HW = (np.abs(answer_HWC - source_HWC) > DIFFERENT).any(-1)
    grown = F.max_pool2d(
        torch.from_numpy(differs_HW)[None, None].float(), 2 * GROWN + 1, stride=1, padding=GROWN
    )
    return grown[0, 0].numpy() > 0


def score(source_HWC: Pixels, answer_HWC: Pixels, edited_HWC: Pixels, category: str) -> Score:
    """How near an edit comes to the true answer; copying the source never succeeds."""
    error_HW = np.abs(edited_HWC - answer_HWC).mean(-1)
    if category in REFERENCE_CATEGORIES:
        inside = float(error_HW.mean())
        return Score(inside=inside, outside=0.0, success=inside <= REFERENCE_INSIDE)
    inside_HW = changed(source_HWC, answer_HWC)
    inside = float(error_HW[inside_HW].mean()) if inside_HW.any() else 0.0
    outside = float(error_HW[~inside_HW].mean()) if (~inside_HW).any() else 0.0
    return Score(inside=inside, outside=outside, success=inside <= INSIDE and outside <= OUTSIDE)
