"""Cases for metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from editkit.evaluation.records import Case, Edit, Item

EDIT = Edit(method="m", item="i", place=0)


def noise(seed: int = 0, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def photograph(name: str, side: int = 128) -> NDArray[np.uint8]:
    """One of scikit-image's, cut to its middle and made smaller."""
    import skimage.data
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(Image.fromarray(getattr(skimage.data, name)()), (side, side)))


def case(result: NDArray[np.uint8], instruction: str = "edit", **given: Any) -> Case:
    """A case whose item's own fields are given by their names too."""
    fields = {
        name: given.pop(name) for name in ("words", "source_caption", "answer_caption") if name in given
    }
    item = Item(id="i", instruction=instruction, **fields)
    return Case(item=item, edit=given.pop("edit", EDIT), result=result, **given)
