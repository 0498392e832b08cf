"""Figures of what an edit left alone, on planted faults."""

from __future__ import annotations

import numpy as np
import pytest

from editkit.evaluation.metrics import load_metric
from editkit.evaluation.records import Edit
from tests.evaluation.metrics.cases import EDIT, case, photograph


@pytest.fixture(scope="module")
def source():
    return photograph("astronaut")


def edited(source, value: int = 255):
    """A square painted over."""
    made = source.copy()
    made[40:72, 40:72] = (value, 0, value)
    return made


def test_nothing_outside_the_mask_changed(source) -> None:
    mask = np.zeros(source.shape[:2], bool)
    mask[36:76, 36:76] = True
    found = load_metric("preservation").score(case(edited(source), source=source, mask_HW=mask))
    assert found.values == {"outside": 0, "tone": 0, "changed": pytest.approx(1600 / 128**2)}
    assert found.notes == {"region": "mask"}


def test_by_hand_outside_the_mask(source) -> None:
    mask = np.zeros(source.shape[:2], bool)
    mask[:64] = True
    result = source.copy()
    plain = np.clip(source[64:].astype(int), 0, 200).astype(np.uint8)
    base = source.copy()
    base[64:] = plain
    result[64:] = plain + np.array([51, 0, 0], np.uint8)
    found = load_metric("preservation").score(case(result, source=base, mask_HW=mask)).values
    assert found["outside"] == pytest.approx(0.2 / 3, abs=1e-6)
    assert found["tone"] == pytest.approx(0.2, abs=1e-6)


def test_the_change_is_inferred_without_a_mask(source) -> None:
    found = load_metric("preservation").score(case(edited(source), source=source))
    assert found.notes == {"region": "inferred"}
    assert found.values["outside"] < 0.002
    assert 32 * 32 / 128**2 * 0.9 < found.values["changed"] < 0.2


def test_a_copy_changed_nothing(source) -> None:
    found = load_metric("preservation").score(case(source, source=source)).values
    assert found == {"outside": 0, "tone": 0, "changed": 0}


def test_a_planted_shift_is_measured() -> None:
    whole = photograph("coffee", 140)
    source, moved = whole[4:132, 4:132], whole[4:132, 1:129]  # 3 px to the right
    found = load_metric("alignment").score(case(moved, source=source)).values
    assert found["shift"] == pytest.approx(3, abs=0.1)
    still = load_metric("alignment").score(case(source, source=source)).values
    assert still["shift"] == pytest.approx(0, abs=0.02)
    assert still["scale"] == pytest.approx(0, abs=0.05)


def test_plain_pictures_have_no_alignment() -> None:
    plain = np.full((64, 64, 3), 90, np.uint8)
    assert not load_metric("alignment").score(case(plain, source=plain)).values


def test_without_a_source_there_are_no_figures(source) -> None:
    for name in ("preservation", "alignment"):
        assert not load_metric(name).score(case(source)).values


def test_cost_passes_on_what_was_logged(source) -> None:
    cost = load_metric("cost")
    assert not cost.score(case(source, edit=EDIT)).values
    logged = Edit(method="m", item="i", place=0, cost={"seconds": 1.5, "steps": 8, "other": 1})
    assert cost.score(case(source, edit=logged)).values == {"seconds": 1.5, "steps": 8}
