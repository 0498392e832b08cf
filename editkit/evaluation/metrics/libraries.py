"""Import the libraries of metrics, or say that they are not here."""

from __future__ import annotations

import importlib
from types import ModuleType

from editkit.evaluation.metrics.base import AbsentMetricError


def torchmetrics() -> ModuleType:
    """The package torchmetrics.

    Raises:
        AbsentMetricError: where it is not installed.
    """
    return imported("torchmetrics")


def imported(name: str) -> ModuleType:
    """A package of the extra `eval`.

    Raises:
        AbsentMetricError: where it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise AbsentMetricError(
            f"It needs the package {name.partition('.')[0]}: pip install 'editkit[eval]'."
        ) from error
