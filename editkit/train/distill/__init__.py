"""Objectives that distil a model into one that needs fewer passes: guidance, and fewer steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from editkit.train.distill.guidance import GuidanceObjective
from editkit.train.distill.ladd import LaddObjective
from editkit.train.distill.progressive import ProgressiveObjective
from editkit.train.objective import FlowObjective, Objective

if TYPE_CHECKING:
    from editkit.train.settings import EditTrainConfig


def objective_of(settings: EditTrainConfig) -> type[Objective]:
    """Return the class of the objective that a run's settings ask for."""
    if settings.distill is None:
        return FlowObjective
    if settings.distill.guidance is not None:
        return GuidanceObjective
    return LaddObjective if settings.distill.ladd is not None else ProgressiveObjective
