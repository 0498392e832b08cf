"""The config of what a run looks at: held-out records on the way, a benchmark before and after."""

from dataclasses import dataclass, field
from typing import Any

from editkit.data.records import DataConfig

MOST = 10_000
"""Number of edits that ShapesWorld holds out."""


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Options of validation."""

    data: DataConfig | None = None
    """Records for validation that the run is not trained on; ShapesWorld's held-out seeds where null."""
    examples: int = 16
    """Number of records for the held-out loss and the sheet of edits."""
    success: int = 0
    """Number of ShapesWorld edits whose success is counted; 0 for none."""
    steps: int | None = None
    """Number of Euler steps of an edit; where null, the number that distillation teaches, or the method's."""

    def __post_init__(self) -> None:
        if self.examples < 1 or self.success < 0:
            raise ValueError("validation.examples must be at least 1 and validation.success not negative")
        if self.success > MOST or (self.steps is not None and self.steps < 1):
            raise ValueError(f"validation.success must be at most {MOST} and validation.steps at least 1")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """A benchmark that a run does before its first step and with what it exported."""

    benchmark: str = "shapesworld"
    """A name from `editkit eval benchmarks`, or the path of a benchmark's YAML."""
    data: str | None = None
    """Folder or file of the benchmark's data."""
    limit: int | None = None
    """Take the first items only."""
    metrics: list[str] = field(default_factory=list)
    """Names of metrics; the benchmark's own where empty."""
    metric_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Options by metric."""
    seed: int = 0
    """Mixed into every item's seed."""
    steps: int | None = None
    """Euler steps; where null, the number that distillation teaches, or the method's."""
    batch_size: int = 8
    """Items that are edited together."""
    masks: bool = False
    """Give the benchmark's masks to the method."""
