"""The costs of an edit, from the log of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from editkit.evaluation.metrics.base import LOWER, Column
from editkit.evaluation.records import Case, Scores


class Cost:
    """Passes on what a run measured; results made elsewhere have no cost."""

    name = "cost"
    parallel = True
    columns = (
        Column(name="seconds", better=LOWER, meaning="time of an edit, loading left out", unit="s"),
        Column(name="steps", better=LOWER, meaning="Euler steps"),
        Column(name="tokens", better=LOWER, meaning="tokens of the canvas"),
        Column(name="tflops", better=LOWER, meaning="operations of all forward passes", unit="10^12"),
        Column(name="peak_gb", better=LOWER, meaning="largest memory in use, GPU, else process", unit="GB"),
    )

    def describe(self) -> Mapping[str, Any]:
        """Return the sorts of cost that are counted."""
        return {
            "seconds": "wall clock of a batch, shared evenly among its edits",
            "tflops": "transformer alone, counted on shapes; neither text encoders nor autoencoder",
            "peak_gb": "torch's peak on a GPU; the process's resident peak so far on a CPU",
        }

    def score(self, case: Case) -> Scores:
        """The logged costs of a case."""
        names = [column.name for column in self.columns]
        return Scores(values={name: value for name, value in case.edit.cost.items() if name in names})
