"""Find methods and training recipes by name, without importing torch.

`editkit.backbone.provider` finds backbones.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from editkit.errors import EditkitError, unknown
from editkit.packages import own_package

if TYPE_CHECKING:
    from editkit.config import Options
    from editkit.method import Method

RECIPES = {
    "autoencoder": "editkit.shapesworld.recipes.autoencoder",
    "edit": "editkit.train.finetune",
    "fill": "editkit.shapesworld.recipes.fill",
    "judge": "editkit.shapesworld.recipes.judge",
}
SETTINGS = {"edit": "editkit.train.settings"}
"""Modules that hold a recipe's `CONFIG` and load no torch; without one, the recipe's own holds it."""


@cache
def method_names() -> tuple[str, ...]:
    """List the folders below `methods` in alphabetical order."""
    package = own_package("methods")
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg))


def method(name: str) -> Method[Options]:
    """Return a method's record.

    Raises:
        EditkitError: where no method has this name.
    """
    known = method_names()
    if name not in known:
        raise EditkitError(unknown("method", name, known))
    record: Method[Options] = importlib.import_module(f"methods.{name}").METHOD
    return record


def method_config(name: str) -> type[Options]:
    """Return the dataclass of a method's options; this imports no torch, as the record does.

    Raises:
        EditkitError: where no method has this name.
    """
    known = method_names()
    if name not in known:
        raise EditkitError(unknown("method", name, known))
    found: type[Options] = importlib.import_module(f"methods.{name}.config").CONFIG
    return found


def recipe(name: str) -> ModuleType:
    """Import the module that holds a training recipe's `CONFIG` and `JOB`.

    Raises:
        EditkitError: where no recipe has this name.
    """
    if name not in RECIPES:
        raise EditkitError(unknown("training recipe", name, RECIPES))
    return importlib.import_module(RECIPES[name])


def recipe_config(name: str) -> type[Any]:
    """Return the dataclass of a training recipe's settings.

    Raises:
        EditkitError: where no recipe has this name.
    """
    if name not in SETTINGS:
        found: type[Any] = recipe(name).CONFIG
        return found
    found = importlib.import_module(SETTINGS[name]).CONFIG
    return found
