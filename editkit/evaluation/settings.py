"""The settings of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is evaluated, on what, and by what."""

    benchmark: str
    """A name from `editkit eval benchmarks`, or the path of a benchmark's YAML."""
    out: str
    """The run's folder; a run that was stopped goes on there."""
    data: str | None = None
    """Folder or file of the benchmark's data."""
    methods: list[str] = field(default_factory=list)
    """Methods that edit its items."""
    backbone: str = "tiny"
    """A name from `editkit backbones`, a folder or Hub id."""
    device: str | None = None
    """cpu, cuda or mps; the best one here where null."""
    dtype: str | None = None
    """float32, bfloat16 or float16; what suits the device where null."""
    load: dict[str, Any] = field(default_factory=dict)
    """Options of the backbone."""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Options by method."""
    lora: dict[str, float] = field(default_factory=dict)
    """Adapters that every method wears as well, with their scales."""
    results: dict[str, str] = field(default_factory=dict)
    """Folders of results made elsewhere, by the name that they get in tables; no model runs for these."""
    limit: int | None = None
    """Take the first items only."""
    metrics: list[str] = field(default_factory=list)
    """Names of metrics; the benchmark's own where empty."""
    metric_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Options by metric."""
    judge: dict[str, Any] = field(default_factory=dict)
    """A scoring judge beside the metrics: name, rubric, passes, options, replies."""
    seed: int = 0
    """Mixed into every item's seed."""
    steps: int | None = None
    """Euler steps; each method's own where null."""
    batch_size: int = 8
    """Items, or sessions, that are edited together. It is part of the run, as rounding depends on it."""
    masks: bool = False
    """Give the benchmark's masks to the methods as well."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, not {self.limit}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if not self.methods and not self.results:
            raise ValueError("methods or results must name what is evaluated")
        names = [*self.methods, *self.results]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} comes twice among methods and results")
        if strange := [
            name for name in names if not name or set(name) & set("/\\\0") or name.startswith(".")
        ]:
            raise ValueError(f"{strange[0]!r} names no folder for its results")
