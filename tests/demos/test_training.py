"""The training run of a page, without the page."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from demos import training
from demos.training import Training
from editkit.errors import EditkitError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "OUTPUT", tmp_path / "page")


def test_visitors_who_start_at_once_start_one_run() -> None:
    """Two runs would write to one folder, and only one of them could be stopped."""
    recipe, *_ = training.recipes("tiny").values()
    run, together = Training(), Barrier(6)

    def start() -> str:
        together.wait()
        try:
            run.start(recipe, 1000, {})
        except EditkitError as error:
            return str(error)
        return ""

    try:
        with ThreadPoolExecutor(6) as visitors:
            started = [visitors.submit(start) for _ in range(6)]
        refused = [each.result() for each in started if each.result()]
        assert len(refused) == 5
        assert all("already going on" in each for each in refused)
    finally:
        run.end()


def test_a_plan_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PLAN_SECONDS", 0.2)
    name, *_ = training.recipes("tiny")
    with pytest.raises(EditkitError, match=r"Planning took over 0\.2 s; ask again"):
        training.plan(name, 10, {})
