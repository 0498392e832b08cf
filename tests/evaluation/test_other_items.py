"""Runs whose items have the same ids and ask for other edits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import Cli
from tests.evaluation import samples
from tests.evaluation.finished import scored


def test_other_questions_of_one_id_fail_the_gate(tmp_path: Path, cli: Cli) -> None:
    """MagicBrush's single turns and its chained ones have the same ids, and other sources."""
    single, chained = (
        scored(tmp_path / name, name, {"m": 3}, ["pixels"]).path
        for name in ("magicbrush", "magicbrush-multi")
    )
    told = cli("eval", "compare", single, chained)
    assert told.status == 1
    assert "2 of the 4 items that both runs have ask for another edit in " in told.err
    assert cli("eval", "compare", single, chained, "--shared-items").status == 0
    assert cli("eval", "compare", single, single).status == 0


@pytest.mark.parametrize("changed", ["source", "answer", "mask"])
def test_other_pictures_of_one_id_fail_the_gate(changed: str, tmp_path: Path, cli: Cli) -> None:
    first = scored(tmp_path, "jsonl", {"m": 3}, ["pixels"]).path
    samples.picture(99).save(tmp_path / "data" / changed / "2.png")
    second = scored(tmp_path, "jsonl", {"m": 4}, ["pixels"]).path
    told = cli("eval", "compare", first, second)
    assert told.status == 1
    assert "1 of the 4 items that both runs have ask for another edit in " in told.err
    assert "such as 'item 2'" in told.err
    assert cli("eval", "compare", first, second, "--shared-items").status == 0
