"""Pictures that are given as NumPy arrays or tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editkit.errors import EditkitError

ALLOWED = "give height x width, or height x width x 3 or 4, of uint8, or of floats in [0, 1]"


def image(given: Any, what: str = "image") -> Image.Image:
    """An array or tensor, HWC or HW, uint8 or floats in [0, 1], as a PIL image; a PIL image as it is.

    Raises:
        EditkitError: for anything else; `what` is its name there.
    """
    if isinstance(given, Image.Image):
        return given
    if not (hasattr(given, "__array__") and hasattr(given, "shape")):
        found = type(given).__name__
        raise EditkitError(f"The {what} is of type {found}; give a path, a PIL image, an array or a tensor.")
    values = _values(given)
    shape = " x ".join(map(str, values.shape)) or "none"
    told = f"The {what} is an array of shape {shape} and type {values.dtype}"
    if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))) or not values.size:
        raise EditkitError(f"{told}; {ALLOWED}.")
    if np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # which NaN is not either
            raise EditkitError(f"{told} with values from {low:g} to {high:g}; {ALLOWED}.")
        values = np.floor(values.astype(np.float64) * 255 + 0.5).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise EditkitError(f"{told}; {ALLOWED}.")
    return Image.fromarray(np.ascontiguousarray(values))


def _values(given: Any) -> NDArray[Any]:
    """The values in main memory; NumPy knows no bfloat16 and no gradients."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    return np.asarray(given)
