"""Surface: every shipped run is planned for flux1-dev, and runs from end to end on a sample with tiny."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from editkit import api, config
from editkit.evaluation import runner
from editkit.evaluation.report import files, frame
from editkit.evaluation.settings import RunConfig
from tests import ROOT
from tests.command_line import Cli
from tests.evaluation import samples

SHIPPED = sorted((ROOT / "configs" / "evaluation").glob("*.yaml"))


def named(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="module")
def tiny() -> Any:
    return api.load("tiny", "cpu")


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_planned_for_flux(path: Path, tmp_path: Path, cli: Cli) -> None:
    settings = config.build(RunConfig, config.read(path))
    data = samples.PUBLISHED[settings.benchmark](tmp_path / "data")
    told = cli("eval", "run", path, "--data", data, "--dry-run", "--on", "h100-80g")
    assert told.status == 0
    (line,) = [line for line in told.out.splitlines() if line.startswith(f"{settings.methods[0]} ")]
    items, passes, operations, hours = line.split()[1:]
    assert int(passes) % int(items) == 0
    assert float(operations) > 1e13
    assert float(hours) > 0
    assert ("judge: at most" in told.out) == bool(settings.judge)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_runs_on_a_sample_with_tiny(path: Path, tmp_path: Path, tiny: Any) -> None:
    """Without its judge, which needs an endpoint; test_judge asks one."""
    settings = config.build(RunConfig, config.read(path))
    data = samples.PUBLISHED[settings.benchmark](tmp_path / "data")
    settings = replace(
        settings, backbone="tiny", data=str(data), judge={}, steps=1, out=str(tmp_path / "run")
    )

    def phase(label: str, total: int) -> Callable[[int], None]:
        return lambda count: None

    folder = runner.run(runner.prepare(settings), lambda: tiny, phase)
    found = frame.read(folder)
    assert found.rows
    assert all(row.error is None and row.values["steps"] == 1 for row in found.rows)
    assert (tmp_path / "run" / "report.html") in files.write(folder.path)
