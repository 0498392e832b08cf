"""Runs with figures that are known, written as a run writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from editkit.evaluation import runner
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests.evaluation import samples


def quiet(label: str, total: int) -> Callable[[int], None]:
    return lambda count: None


def scored(folder: Path, name: str, results: dict[str, int], metrics: list[str]) -> RunFolder:
    """A benchmark's sample scored on true answers that are brighter by so many levels, by method."""
    data = folder / "data"
    if not data.exists():
        data.mkdir(parents=True)
        samples.PUBLISHED.get(name, samples.jsonl)(data)
    given = data / "items.jsonl" if name == "jsonl" else data
    benchmark = runner.open_benchmark(name, given)
    found = {
        method: str(samples.copied_results(benchmark, folder / f"{method}-{change}", change))
        for method, change in results.items()
    }
    mark = "-".join(f"{method}{change}" for method, change in results.items())
    config = RunConfig(
        benchmark=name, data=str(given), results=found, metrics=metrics, out=str(folder / f"run-{mark}")
    )

    def unused() -> None:
        raise AssertionError("no model is needed")

    return runner.run(runner.prepare(config), unused, quiet)  # type: ignore[arg-type]
