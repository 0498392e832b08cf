"""Metrics by name: each gives figures for a result, and says what they depend on."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from editkit import config
from editkit.errors import EditkitError, unknown
from editkit.evaluation.metrics.base import AbsentMetricError, AskingMetric, Column, LoadedMetric, Metric

METRICS = {
    "pixels": "editkit.evaluation.metrics.pixels:Pixels",
    "source-pixels": "editkit.evaluation.metrics.pixels:SourcePixels",
    "lpips": "editkit.evaluation.metrics.perceptual:Perceptual",
    "clip": "editkit.evaluation.metrics.clip:Clip",
    "dino": "editkit.evaluation.metrics.dino:Dino",
    "preservation": "editkit.evaluation.metrics.preservation:Preservation",
    "alignment": "editkit.evaluation.metrics.preservation:Registration",
    "identity": "editkit.evaluation.metrics.identity:Identity",
    "text": "editkit.evaluation.metrics.text:ReadText",
    "shapesworld": "editkit.shapesworld.benchmark:Success",
    "judge": "editkit.evaluation.metrics.judge:RubricMetric",
    "cost": "editkit.evaluation.metrics.cost:Cost",
}
"""Place of each metric, which is imported when it is asked for. A class may have a `Config` of options."""

__all__ = ["METRICS", "AbsentMetricError", "AskingMetric", "Column", "LoadedMetric", "Metric", "load_metric"]


def load_metric(name: str, options: Mapping[str, Any] | None = None) -> Metric:
    """A metric by name, with its options.

    Raises:
        AbsentMetricError: where its weights or packages are not here.
        EditkitError: for an unknown name or option.
    """
    if name not in METRICS:
        raise EditkitError(unknown("metric called", name, METRICS))
    module, _, kind = METRICS[name].partition(":")
    made = getattr(importlib.import_module(module), kind)
    settings = getattr(made, "Config", None)
    if settings is None:
        if options:
            raise EditkitError(f"The metric {name} has no options, and {', '.join(options)} is given.")
        found: Metric = made()
        return found
    found = made(config.build(settings, options or {}))
    return found
