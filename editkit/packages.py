"""Find editkit's outer packages by name; the core never imports them directly."""

import importlib
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


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
