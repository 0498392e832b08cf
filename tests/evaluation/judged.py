"""Runs that a judge behind an endpoint scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from editkit.evaluation.benchmarks import open_benchmark
from editkit.evaluation.settings import RunConfig
from tests.evaluation import samples
from tests.judges.rubric_endpoint import Served, options


def good(text: str, number: int) -> str:
    if "Prompt Compliance" in text:
        return "Reason: fine.\nPrompt Compliance: 5\nVisual Naturalness: 4\nPhysical & Detail Integrity: 3"
    if "Style Fidelity" in text:
        return "Brief reasoning: no.\nStyle Fidelity: 2\nContent Preservation: 2\nRendering Quality: 2"
    if "naturalness" in text:
        return '{"reason": "clean <b>", "naturalness": 9, "cleanness": 9}'
    return '{"reason": "blue", "success": 8, "restraint": 4}'


def config(folder: Path, served: Served, of: str = "jsonl", **judge: Any) -> RunConfig:
    data = samples.PUBLISHED.get(of, samples.jsonl)(folder / "data")
    benchmark = open_benchmark(of, data)
    results = samples.copied_results(benchmark, folder / "theirs", 9)
    chosen = {"name": "openai", "options": options(served), **judge}
    return RunConfig(
        benchmark=of, data=str(data), results={"theirs": str(results)}, metrics=["source-pixels"],
        judge=chosen, out=str(folder / "run"),
    )  # fmt: skip
