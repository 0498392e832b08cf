"""Measure how far a session's turns drifted from the original, and put the original's pixels back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from editkit.imaging import images
from editkit.inference import postprocess

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from editkit.sessions.store import Turn


def changed(path: Sequence[Turn]) -> Tensor:
    """Join the changes of turns, 11HW: 1 where any of them was meant to change something.

    Raises:
        EditkitError: if a file is missing or damaged.
    """
    width, height = path[0].image.size
    changed_HW = np.zeros((height, width), dtype=bool)
    for turn in path:
        if (change := turn.change) is not None:
            changed_HW |= np.array(change.convert("L")) > 127
    return torch.from_numpy(changed_HW)[None, None].float()


def measure(path: Sequence[Turn]) -> float:
    """Return the mean absolute difference of the last turn to the first, in [0, 1], outside all changes.

    Returns 0 if the turns changed every pixel.
    """
    changed_11HW, original_1CHW = changed(path), _pixels(path[0])
    still = (changed_11HW < 0.5).expand_as(original_1CHW)
    if not still.any():
        return 0.0
    return float((_pixels(path[-1]) - original_1CHW).abs()[still].mean())


def anchor(path: Sequence[Turn]) -> Image.Image:
    """Return the last turn's picture with the first one's pixels outside all changes."""
    kept_1CHW = postprocess.kept(_pixels(path[0]), _pixels(path[-1]), changed(path))
    return images.picture(kept_1CHW, images.load_image(path[-1].path).alpha)


def _pixels(turn: Turn) -> Tensor:
    return images.tensor(images.load_image(turn.path))
