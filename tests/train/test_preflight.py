"""Sentences before a run begins."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from editkit import EditkitError
from editkit.train.finetune import EditJob
from editkit.train.preflight import check_run


def test_a_cache_that_cannot_be_written_is_told_before(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    chosen = dataclasses.replace(settings("run"), backbone="nothing of the kind", fresh={})
    with pytest.raises(EditkitError, match=r"file is a file"):
        EditJob(dataclasses.replace(chosen, cache=str(tmp_path / "file" / "cache")))


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("fit.trackers=[nothing]", "no tracker 'nothing'"),
        ("fit.optim.name=prodigy", r"needs a package: pip install 'editkit\[train\]'"),
    ],
)
def test_what_is_not_installed_is_told_before(
    settings: Any, override: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(EditkitError, match=problem):
        check_run(settings("run", override).fit)
