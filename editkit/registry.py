"""Finds methods, backbones and training recipes by name, without importing torch."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.method import Method

ROOT = Path(__file__).resolve().parent.parent
RECIPES = {
    "autoencoder": "backbones.autoencoder",
    "edit": "editkit.train.finetune",
    "inpaint": "backbones.inpaint",
    "judge": "editkit.shapesworld.recipes.judge",
}


def own_package(name: str) -> ModuleType:
    """Import one of editkit's outer packages.

    Raises:
        ImportError: where another package of the same generic name shadows it.
    """
    package = importlib.import_module(name)
    found = Path(package.__file__ or "").resolve().parent
    if found != ROOT / name:
        raise ImportError(
            f"The package {name!r} was found at {found}, which is not editkit's own at {ROOT / name}; "
            f"take that folder off the import path or run from elsewhere."
        )
    return package


@cache
def method_names() -> tuple[str, ...]:
    """Folders below `methods`, in alphabetical order."""
    package = own_package("methods")
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg))


def method(name: str) -> Method:
    """A method's record.

    Raises:
        EditkitError: where no method has this name.
    """
    known = method_names()
    if name not in known:
        raise EditkitError(unknown("method", name, known))
    record: Method = importlib.import_module(f"methods.{name}").METHOD
    return record


def recipe(name: str) -> ModuleType:
    """The module that holds a training recipe's `CONFIG` and `JOB`.

    Raises:
        EditkitError: where no recipe has this name.
    """
    if name not in RECIPES:
        raise EditkitError(unknown("training recipe", name, RECIPES))
    return importlib.import_module(RECIPES[name])


def backbones(part: str) -> Any:
    """A module of the FLUX border: `specs` (the table), `flux`, `fresh`, `convert`, ..."""
    own_package("backbones")
    return importlib.import_module(f"backbones.{part}")


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a name that is not there."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {close[0]!r}" if close else ""
    return f"There is no {what} {name!r}; there are {', '.join(known)}{hint}."
