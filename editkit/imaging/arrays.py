"""Convert pictures given as NumPy arrays or tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editkit.errors import EditkitError

ALLOWED = "give height x width, or height x width x 3 or 4, of uint8, or of floats in [0, 1]"


def to_image(given: Any, what: str = "image") -> Image.Image:
    """Convert an array or tensor to a PIL image; a PIL image stays as it is.

    Args:
        given: (H, W), (H, W, 3) or (H, W, 4), of uint8 or of floats in [0, 1]; a mask may be bool.
        what: what messages call the picture.

    Raises:
        EditkitError: for anything else.
    """
    if isinstance(given, Image.Image):
        return given
    if not (hasattr(given, "__array__") and hasattr(given, "shape")):
        found = type(given).__name__
        raise EditkitError(f"The {what} is of type {found}; give a path, a PIL image, an array or a tensor.")
    values = _numpy(given)
    shape = " x ".join(map(str, values.shape)) or "none"
    found = f"The {what} is an array of shape {shape} and type {values.dtype}"
    if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))) or not values.size:
        raise EditkitError(f"{found}; {ALLOWED}.")
    if np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # which NaN is not either
            raise EditkitError(f"{found} with values from {low:g} to {high:g}; {ALLOWED}.")
        values = np.floor(values.astype(np.float64) * 255 + 0.5).astype(np.uint8)
    elif values.dtype == np.bool_ and values.ndim == 2:
        values = values.astype(np.uint8) * 255
    elif values.dtype != np.uint8:
        raise EditkitError(f"{found}; {ALLOWED}.")
    return Image.fromarray(np.ascontiguousarray(values))


def _numpy(given: Any) -> NDArray[Any]:
    """Copy the values to main memory as types that NumPy has; it has no bfloat16 and no gradients."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    return np.asarray(given)
