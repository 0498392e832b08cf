"""A failure of one process ends all of them, with its sentence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from editkit.train import checkpoints, status
from tests import ROOT
from tests.train.launched import TOGETHER, started

FAILING = (*TOGETHER[:-1], str(ROOT / "tests" / "train" / "failing_run.py"))
SENTENCE = "The picture a.png is missing; correct or remove its record."


@pytest.mark.slow
@pytest.mark.parametrize("when", ["making", "training"])
def test_an_error_in_one_process_ends_all_with_its_sentence(
    when: str, parts: tuple[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    process = started(FAILING, output, parts, when)
    told, _ = process.communicate(timeout=240)
    assert process.returncode
    lines = [line for line in told.splitlines() if line.startswith("editkit: ")]
    assert sorted(lines) == [f"editkit: Process 2 of 2 stopped: {SENTENCE}", f"editkit: {SENTENCE}"], told
    assert told.count("Traceback") <= 1, told  # the launcher's own
    found = status.read_status(output)
    if when == "training":
        assert found is not None
        assert found.phase == status.FAILED
        assert SENTENCE in found.reason
        assert found.updated < time.time()
        assert [path.name for path in checkpoints.complete(output)] == ["checkpoint-0000002"]
