"""Planted faults: the main rows of the table of metrics, on fewer edits."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import fault_expectations, faults, planted_faults
from editkit.evaluation.metrics import load_metric
from editkit.evaluation.metrics.base import HIGHER, LOWER, Column
from editkit.shapesworld.scores import INSIDE, changed

N = 6


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, float]]:
    names = ("pixels", "source-pixels", "preservation", "shapesworld")
    return faults.table(N, [load_metric(name) for name in names])


def test_errors_to_the_true_answer_see_every_fault(table: dict[str, dict[str, float]]) -> None:
    for column in ("l1", "l2", "psnr"):
        assert table[column] == dict.fromkeys(planted_faults.FAULTS, 1.0)


def test_likeness_to_the_source_prefers_a_copy(table: dict[str, dict[str, float]]) -> None:
    assert table["source_l1"]["copy"] == table["source_ssim"]["copy"] == 0


def test_success_sees_what_breaks_the_edit(table: dict[str, dict[str, float]]) -> None:
    assert table["success"]["copy"] == table["success"]["ground"] == 1
    assert table["inside"]["colour"] == 1


def test_success_sees_a_wrong_colour_where_the_thing_is_large_enough(
    table: dict[str, dict[str, float]],
) -> None:
    """Its limit is a mean error, which a wrong colour on a small thing stays below: then it is a tie."""
    shares = []
    for number, edit in enumerate(planted_faults.edits(N)):
        shown = planted_faults.cases(edit, number)["colour"]
        assert shown.source is not None
        assert shown.answer is not None
        source, answer, result = (
            picture.astype(np.float32) / 255 for picture in (shown.source, shown.answer, shown.result)
        )
        error = np.abs(result - answer)[changed(source, answer)].mean()
        shares.append(1.0 if error > INSIDE else 0.5)
    assert table["success"]["colour"] == pytest.approx(np.mean(shares))
    assert np.mean(shares) > 0.75


def test_outside_the_change_needs_a_mask_to_see_faults(table: dict[str, dict[str, float]]) -> None:
    """Without one, a fault counts as part of the edit."""
    for fault in ("moved", "ground", "blur", "shift"):
        assert table["outside, masked"][fault] == 1
    assert table["outside"]["moved"] < fault_expectations.SEEN


def test_every_figure_sees_what_it_is_made_for(table: dict[str, dict[str, float]]) -> None:
    assert fault_expectations.unseen(table) == []


def test_a_figure_that_misses_its_fault_is_named() -> None:
    seen = dict.fromkeys(planted_faults.FAULTS, 1.0)
    blind = dict.fromkeys(planted_faults.FAULTS, 0.0)
    assert not fault_expectations.unseen({"l1": seen, "outside": blind})
    assert fault_expectations.unseen({"l1": {**seen, "shift": 0.5}}) == [
        "l1 should see shift, and does in 0.50"
    ]


def test_every_figure_has_a_reason(table: dict[str, dict[str, float]]) -> None:
    """No figure of the table is without an expectation, and none has two."""
    named = [name for each in fault_expectations.EXPECTATIONS for name in each.figures]
    assert len(named) == len(set(named))
    assert set(table) <= set(named)
    for each in fault_expectations.EXPECTATIONS:
        assert set(each.faults) <= set(planted_faults.FAULTS)
    assert len(list(fault_expectations.explained(["outside", "tone", "shift"]))) == 2


def test_every_fault_differs_from_the_clean_result() -> None:
    for number, edit in enumerate(planted_faults.edits(N)):
        shown = planted_faults.cases(edit, number)
        clean = shown["clean"].result.astype(int)
        for name in planted_faults.FAULTS:
            apart = np.abs(shown[name].result.astype(int) - clean)
            assert apart.max() > 10 * planted_faults.NOISE, name


def test_ties_count_half() -> None:
    up, down = (Column(name="x", better=better, meaning="") for better in (HIGHER, LOWER))
    assert [faults.won(up, 2, 1), faults.won(down, 2, 1), faults.won(up, 1, 1)] == [1, 0, 0.5]
    assert faults.won(up, 1, None) == 0.5
