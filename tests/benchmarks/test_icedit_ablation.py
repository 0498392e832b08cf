"""ICEdit's ablation: its examples, and two rows on one of them."""

from __future__ import annotations

import pytest

from benchmarks import icedit_ablation


def test_examples_go_on_where_others_stopped() -> None:
    assert icedit_ablation.examples(5, 0)[2:] == icedit_ablation.examples(3, 2)


def test_rows_run(capsys: pytest.CaptureFixture[str]) -> None:
    bare, moe = icedit_ablation.table(1, 0, [3, 7])
    assert (bare["parameters"], moe["parameters"] > 400_000) == (0, True)
    assert {*icedit_ablation.CATEGORIES, "all", "inside", "outside"} <= bare.keys()
    assert "training-free, in-context prompt" in capsys.readouterr().out
