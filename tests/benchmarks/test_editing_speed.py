"""Behaviour: the choice of measured speeds, and the reading of the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import editing_speed, speed_table
from editkit import config
from editkit.inference import speed

MEASURED = {
    "exact": ("exact", {"saves": 1.0, "success": 0.9}),
    "safe": ("full_steps=5", {"saves": 2.0, "success": 0.895}),
    "quick": ("full_steps=2", {"saves": 4.0, "success": 0.88}),
    "hasty": ("full_steps=1", {"saves": 6.0, "success": 0.5}),
}


def test_a_speed_saves_most_of_what_keeps_success() -> None:
    assert speed_table.chosen(MEASURED, 0.01) == "full_steps=5"
    assert speed_table.chosen(MEASURED, 0.03) == "full_steps=2"
    assert speed_table.chosen(MEASURED, 0.0) == "exact"


def test_the_table_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "speed.yaml"
    monkeypatch.setattr(speed_table, "TABLE", place)
    monkeypatch.setattr(speed, "TABLE", place)
    speed_table.write("some", "kontext", MEASURED)
    assert speed.resolve("fast", "some", "kontext") == speed.StepSaving(full_steps=2)
    assert config.read(place)["some"]["kontext"]["balanced"]["full_steps"] == 5


def test_operations_are_those_of_matrix_products() -> None:
    one, two = torch.ones(8, 16), torch.ones(16, 4)
    flops, made = editing_speed.counted(lambda: one @ two)
    assert flops == 2 * 8 * 16 * 4
    assert made.shape == (8, 4)


def test_decibels() -> None:
    black = torch.zeros(4, 4, 3).numpy()
    assert editing_speed.decibels(black, black) == 60
    assert editing_speed.decibels(black, black + 0.1) == pytest.approx(20, abs=0.01)
