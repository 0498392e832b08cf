"""The interface of a metric, and its records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from editkit.errors import EditkitError
from editkit.evaluation.records import RGB, Case, Item, Scores

HIGHER, LOWER, NEITHER = "higher", "lower", "neither"


class AbsentMetricError(EditkitError):
    """A metric whose weights or packages are not here; a run leaves it out and says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One figure of a metric.

    Attributes:
        name: what it is called in tables.
        better: `higher`, `lower`, or `neither`.
        meaning: what it measures, in a few words.
        unit: of the figure; empty for a plain number.
        failed: what an item counts that has no picture; where None, such items are only counted.
        always: whether it is asked of every item. Where not, a failure counts if the metric says that it asks
            the item (`AskingMetric`), or the item has the figure of another method.
    """

    name: str
    better: str
    meaning: str
    unit: str = ""
    failed: float | None = None
    always: bool = True


class Metric(Protocol):
    """Scores results. A judge is a metric too: its replies go into the notes of its scores.

    Attributes:
        name: what it is asked for by.
        columns: its figures.
        parallel: whether threads may score by it at once.
    """

    name: str
    columns: tuple[Column, ...]
    parallel: bool

    def describe(self) -> Mapping[str, Any]:
        """Return what its figures depend on, in JSON's types: model, revision, preprocessing, resize rule."""

    def score(self, case: Case) -> Scores:
        """Score a result; a case that lacks what is compared gives no values.

        Raises:
            EditkitError: where it cannot be scored; the report counts it and says why.
        """


@runtime_checkable
class LoadedMetric(Protocol):
    """A metric whose model is loaded when a run begins, and not for a plan."""

    def load(self) -> None:
        """Load it.

        Raises:
            EditkitError: where it cannot be loaded.
        """


@runtime_checkable
class AskingMetric(Protocol):
    """A metric with columns that are not asked of every item."""

    def asks(self, item: Item, first: RGB | None) -> bool:
        """Return whether an item asks for these columns, whatever its result is.

        Args:
            item: the question.
            first: the picture that its session began with, where it can be read.
        """
