"""Recipes of pictures, in JSON's types: everything that is needed to make a picture again."""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit.errors import EditkitError
from editkit.imaging.images import RECIPE_KEY, Picture, opened
from editkit.request import SETTINGS, USED, EditRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

Recipe = dict[str, Any]
PACKAGES = ("editkit", "torch", "diffusers", "transformers")


def make(**settings: Any) -> Recipe:
    """Make a recipe of the settings; "versions" holds those of Python and of the packages.

    Raises:
        TypeError: where a setting is not of JSON's types.
    """
    # Through JSON once, so that a recipe equals the one read back from a file: tuples become lists.
    recipe: Recipe = json.loads(json.dumps({**settings, "versions": versions()}))
    return recipe


def request_settings(request: EditRequest) -> Recipe:
    """Return a request's settings, without those that the pipeline adds with the values used."""
    return {name: getattr(request, name) for name in SETTINGS if name not in USED}


def settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a request from a recipe, without those that the recipe lacks."""
    found = {name: recipe[name] for name in SETTINGS if name in recipe}
    size = found.get("size")
    return {**found, "size": tuple(size) if size else None}  # JSON knows no tuples


@cache
def versions() -> dict[str, str]:
    """Return versions by name, without packages that are not installed, such as editkit in a checkout."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def read_recipe(path: str | Path) -> Recipe:
    """Read the recipe in a PNG that editkit wrote.

    Raises:
        EditkitError: where the file is no picture or holds no recipe.
    """
    with opened(path) as image:
        try:
            recipe = json.loads(image.info.get(RECIPE_KEY, ""))
        except (TypeError, ValueError) as error:
            raise EditkitError(_missing(path)) from error
    if not isinstance(recipe, dict):
        raise EditkitError(_missing(path))
    return recipe


def pixels_sha256(picture: Picture) -> str:
    """Hash a picture's colours, independent of its file format; returns a hexadecimal digest."""
    return hashlib.sha256(picture.rgb.tobytes()).hexdigest()


def mask_sha256(mask: NDArray[np.float32]) -> str:
    """Hash a mask in [0, 1] in 256 levels; returns a hexadecimal digest."""
    levels = (mask.squeeze() * 255).round().astype("uint8")
    return hashlib.sha256(levels.tobytes()).hexdigest()


def _missing(path: str | Path) -> str:
    return f"The image {path} holds no recipe; give a PNG that editkit wrote."
