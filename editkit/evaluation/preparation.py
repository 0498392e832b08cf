"""Check the settings of a run, and load what it scores by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit import config as configs
from editkit import registry
from editkit.errors import EditkitError, unknown
from editkit.evaluation import existing
from editkit.evaluation.benchmarks import Benchmark, Contents, described, open_benchmark
from editkit.evaluation.metrics import METRICS, AbsentMetricError, Metric, load_metric
from editkit.evaluation.settings import RunConfig

REPLIES = "judge"
"""Folder of a judge's replies, in a run's folder."""


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A run that can start.

    Attributes:
        config: its settings.
        benchmark: gives the items.
        contents: how many there are.
        metrics: score them.
        left_out: why metrics that were wanted are missing, by name.
    """

    config: RunConfig
    benchmark: Benchmark
    contents: Contents
    metrics: list[Metric]
    left_out: Mapping[str, str]


def prepare(config: RunConfig) -> PreparedRun:
    """Check a run's settings, load its metrics, and go through its benchmark, which may take long.

    Raises:
        EditkitError: where settings are wrong, there are no items, or no metric is here.
    """
    wanted = config.metrics or described(config.benchmark).metrics
    names = [*wanted, *(["judge"] if config.judge else [])]
    _check_names(config, names)
    existing.check_folders(config.results)
    benchmark = open_benchmark(config.benchmark, config.data)
    next(benchmark.items(config.limit), None)  # says what is wrong with the data before anything is imported
    _check_requests(config)
    metrics, left_out = list[Metric](), dict[str, str]()
    for name in dict.fromkeys(names):
        made = _metric(name, _options(config, name, benchmark))
        if isinstance(made, str):
            left_out[name] = made
        else:
            metrics.append(made)
    if not metrics:
        raise EditkitError(f"None of the metrics can be used; the first: {next(iter(left_out.values()))}")
    contents = benchmark.contents(config.limit)
    return PreparedRun(
        config=config, benchmark=benchmark, contents=contents, metrics=metrics, left_out=left_out
    )


def _check_names(config: RunConfig, metrics: Sequence[str]) -> None:
    """Check names and options without torch, whose import takes long.

    Raises:
        EditkitError: for an unknown method, metric or option.
    """
    for method, options in config.options.items():
        configs.build(registry.method_config(method), options)
    for name in config.methods:
        variant = config.variant(name)
        configs.build(registry.method_config(variant.method), variant.options)
    for name in metrics:
        if name not in METRICS:
            raise EditkitError(unknown("metric called", name, METRICS))
    if strange := [name for name in config.metric_options if name not in metrics]:
        raise EditkitError(
            f"metric_options names {strange[0]!r}, which is not among the metrics {', '.join(metrics)}."
        )


def _check_requests(config: RunConfig) -> None:
    """Check the fields of each method's requests.

    Raises:
        EditkitError: for a value that an edit refuses.
    """
    from editkit.inference import inputs
    from editkit.request import EditRequest

    for variant in map(config.variant, config.methods):
        if fields := variant.request:
            inputs.prepare(EditRequest(image=None, instruction="edit", method=variant.method, **fields))


def _options(config: RunConfig, name: str, benchmark: Benchmark) -> Mapping[str, Any]:
    given = config.metric_options.get(name, {})
    if name != "judge":
        return given
    given = {**given, **config.judge}
    own = {"rubric": benchmark.config.rubric, "replies": str(Path(config.out) / REPLIES)}
    return {**given, **{key: value for key, value in own.items() if not given.get(key)}}


def _metric(name: str, options: Mapping[str, Any]) -> Metric | str:
    try:
        return load_metric(name, options)
    except AbsentMetricError as error:
        return str(error)
