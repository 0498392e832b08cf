"""Say what a run will need before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editkit import gpus
from editkit.backbone import provider
from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import Benchmark
from editkit.evaluation.forward_cost import ForwardCosts
from editkit.evaluation.metrics import Metric
from editkit.evaluation.metrics.judge import RubricMetric
from editkit.evaluation.records import Item
from editkit.evaluation.settings import RunConfig
from editkit.train.estimate.plan import UTILIZATION


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodNeeds:
    """The estimated cost of one method.

    Attributes:
        method: its name, or a variant's.
        items: edits.
        passes: forward passes of the transformer.
        flops: operations of all of them; None where they cannot be counted.
        hours: on the device that was named; None without one, or where operations are unknown.
    """

    method: str
    items: int
    passes: int | None
    flops: float | None
    hours: float | None


def estimate_methods(config: RunConfig, benchmark: Benchmark, device: str | None = None) -> list[MethodNeeds]:
    """Count forward passes and their operations on shapes, picture size by picture size.

    Pictures are opened for their sizes; a later turn has the size of its session's first picture. Hours
    assume the share of the device's speed that training usually reaches, and count the transformer alone.

    Raises:
        EditkitError: for an unknown method or device.
    """
    chosen = gpus.by_name(device) if device else None
    costs = ForwardCosts(config.backbone, config.load)
    sizes = _sizes(benchmark, config.limit)
    found = []
    for method in config.methods:
        passes, flops = 0, 0.0
        variant, known = config.variant(method), True
        for size, count in sizes.items():
            forward = None if size is None else costs.forward(variant, size[:2], size[2])
            if forward is None:
                known = False
                continue
            steps = (config.steps or forward.steps) * count
            passes, flops = passes + steps, flops + forward.flops * steps
        hours = None
        if known and chosen is not None and chosen.speed:
            hours = flops / (chosen.speed * chosen.count * UTILIZATION) / 3600
        found.append(
            MethodNeeds(
                method=method,
                items=sum(sizes.values()),
                passes=passes if known else None,
                flops=flops if known else None,
                hours=hours,
            )
        )
    return found


def check_machine(config: RunConfig) -> None:
    """Check the names of the device and the precision; the device may be another machine's.

    Raises:
        EditkitError: for an unknown name.
    """
    import torch

    gpus.check_runs(config.device)
    try:
        torch.device(config.device or "cpu")
    except RuntimeError as error:
        raise EditkitError(f"The device {config.device!r} is unknown; use cpu, cuda or mps.") from error
    provider().dtype(config.dtype, torch.device("cpu"))


def judge_calls(results: int, metrics: Sequence[Metric]) -> dict[str, int]:
    """Questions to each scoring judge for so many results, at most; kept replies are not asked again."""
    return {metric.name: results * metric.calls for metric in metrics if isinstance(metric, RubricMetric)}


def _sizes(benchmark: Benchmark, limit: int | None) -> dict[tuple[int, int, int] | None, int]:
    """Numbers of items by width, height and number of references; None for text to image."""
    found: dict[tuple[int, int, int] | None, int] = {}
    session: dict[str, tuple[int, int] | None] = {}
    for item in benchmark.items(limit):
        if not isinstance(item, Item):
            continue
        drawn = item.source is None and (item.turn == 1 or session.get(item.session, ()) is None)
        size = None if drawn else _size(item) or session.get(item.session)
        if size is None and not drawn:  # its picture cannot be read, so that it is not edited
            continue
        if item.session:
            session = {item.session: size}
        key = None if size is None else (*size, len(item.references))
        found[key] = found.get(key, 0) + 1
    return found


def _size(item: Item) -> tuple[int, int] | None:
    if item.source is None:
        return None
    try:
        return item.source.read().size
    except EditkitError:
        return None
