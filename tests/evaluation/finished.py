"""Runs that went well, runs with figures that are known, and their tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from editkit.editor import Editor
from editkit.evaluation import runner
from editkit.evaluation.report import frame
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests.evaluation import samples


def quiet(label: str, total: int) -> Callable[[int], None]:
    return lambda count: None


PIXELS = ["pixels", "preservation"]


def unused() -> Editor:
    raise AssertionError("no model is needed")


def existing_results(folder: Path) -> RunConfig:
    """A run on results made elsewhere of forty items of one's own."""
    data = samples.jsonl(folder / "data", 40)
    results = samples.copied_results(runner.open_benchmark("jsonl", data), folder / "theirs", 9)
    return RunConfig(
        benchmark="jsonl",
        data=str(data),
        results={"theirs": str(results)},
        metrics=PIXELS,
        out=str(folder / "run"),
    )


def done(config: RunConfig, load: Callable[[], Editor] = unused, **given) -> RunFolder:
    return runner.run(runner.prepare(config), load, given.pop("phase", quiet), **given)


def table(folder: RunFolder) -> list[tuple]:
    found = frame.read_frame(folder)
    timed = ("seconds", "peak_gb")
    return [
        (row.method, row.item["id"], row.error, {k: v for k, v in row.values.items() if k not in timed})
        for row in found.rows
    ]


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

    return done(config)
