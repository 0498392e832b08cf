"""The settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

REQUEST = ("task", "guidance", "size", "preserve", "align", "negative", "speed")
"""Fields of `EditRequest` that a run may set; items and other settings decide the others."""
LARGEST = 2**63 - 1
"""Largest whole number that a run's files and tables take."""
OTHER_WORK = ("size", "negative", "speed")
"""Those of them that change how much work an edit is."""

EDITS = (
    *("variants", "backbone", "device", "dtype", "load", "options", "lora", "seed", "steps", "request"),
    *("batch_size", "masks"),
)
"""Fields of a run that only its edits depend on."""


def _check_request(request: Mapping[str, Any] | None) -> None:
    if strange := [name for name in request or () if name not in REQUEST]:
        raise ValueError(f"request may hold {', '.join(REQUEST)}, not {strange[0]!r}")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method with options of its own, which is a row of its own in tables."""

    method: str
    """The method."""
    options: dict[str, Any] = field(default_factory=dict)
    """Its options; they add to those that the run gives the method."""
    request: dict[str, Any] | None = None
    """Fields of its requests, such as speed; they add to those of the run."""

    def __post_init__(self) -> None:
        _check_request(self.request)

    @property
    def plain(self) -> bool:
        """Whether its edits take the work of plain ones, which can be counted on shapes."""
        return not any(
            name in OTHER_WORK and (name, value) != ("speed", "exact")
            for name, value in (self.request or {}).items()
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings of an evaluation: methods, benchmark and metrics."""

    benchmark: str
    """A name from `editkit eval benchmarks`, or the path of a benchmark's YAML."""
    out: str
    """Folder of the run; a run that was stopped goes on there."""
    data: str | None = None
    """Folder or file of the benchmark's data."""
    methods: list[str] = field(default_factory=list)
    """Methods that edit its items, and variants by their names."""
    variants: dict[str, Variant] = field(default_factory=dict)
    """Methods with options of their own, by their names in tables; those in `methods` are run."""
    backbone: str = "tiny"
    """Backbone: a name from `editkit backbones`, a folder or a Hub id."""
    device: str | None = None
    """cpu, cuda or mps; the best one here where null."""
    dtype: str | None = None
    """float32, bfloat16 or float16; what suits the device where null."""
    load: dict[str, Any] = field(default_factory=dict)
    """Options of the backbone."""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Options by method."""
    lora: dict[str, float] = field(default_factory=dict)
    """Adapters that every method uses besides its own, with their scales."""
    results: dict[str, str] = field(default_factory=dict)
    """Folders of results made elsewhere, by their names in tables; no model runs for these."""
    limit: int | None = None
    """Take the first items only."""
    metrics: list[str] = field(default_factory=list)
    """Metrics by name. If none are given, those of the benchmark."""
    metric_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Options by metric."""
    judge: dict[str, Any] = field(default_factory=dict)
    """A scoring judge besides the metrics: name, rubric, passes, options, replies."""
    seed: int = 0
    """Number from which the seed of every item is made."""
    steps: int | None = None
    """Euler steps. If not given, the default of each method."""
    request: dict[str, Any] | None = None
    """Further fields of every request: task, guidance, size, preserve, align, negative, speed."""
    batch_size: int = 8
    """Largest number of items, or of sessions, in a batch. Rounding depends on it."""
    masks: bool = False
    """Give the masks of the benchmark to the methods too."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, not {self.limit}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        for name, number in (("seed", self.seed), ("limit", self.limit)):
            if abs(number or 0) > LARGEST:
                raise ValueError(f"{name} must be at most 2^63 - 1, not {number}")
        _check_request(self.request)
        if not self.methods and not self.results:
            raise ValueError("methods or results must name what is evaluated")
        names = [*self.methods, *self.results]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} comes twice among methods and results")
        if strange := [
            name for name in names if not name or set(name) & set("/\\\0") or name.startswith(".")
        ]:
            raise ValueError(f"{strange[0]!r} names no folder for its results")

    @property
    def unused(self) -> list[str]:
        """Names of the fields that are set and have no use, as no method edits."""
        plain = type(self)(benchmark="", out="", methods=["any"])
        names = [] if self.methods else [each.name for each in fields(self) if each.name in EDITS]
        return [name for name in names if getattr(self, name) != getattr(plain, name)]

    def variant(self, name: str) -> Variant:
        """Return the method that a name in `methods` stands for, with its options and fields of requests."""
        own = self.variants.get(name) or Variant(method=name)
        return Variant(
            method=own.method,
            options={**self.options.get(own.method, {}), **own.options},
            request={**(self.request or {}), **(own.request or {})},
        )
