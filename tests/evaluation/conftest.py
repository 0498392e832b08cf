"""A run on results made elsewhere, which needs no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from editkit.evaluation import runner
from editkit.evaluation.settings import RunConfig
from tests.evaluation import samples
from tests.evaluation.finished import PIXELS


@pytest.fixture
def existing(tmp_path: Path) -> RunConfig:
    """Results made elsewhere on forty items of one's own."""
    data = samples.jsonl(tmp_path / "data", 40)
    results = samples.copied_results(runner.open_benchmark("jsonl", data), tmp_path / "theirs", 9)
    return RunConfig(
        benchmark="jsonl",
        data=str(data),
        results={"theirs": str(results)},
        metrics=PIXELS,
        out=str(tmp_path / "run"),
    )
