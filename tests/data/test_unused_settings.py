"""Behaviour: settings that a dataset does not use are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from editkit import config, notes
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from tests.pictures import image


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file of one pair."""
    image(32, 32).save(tmp_path / "a.png")
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"source": "a.png", "answer": "a.png", "instruction": "make it red"}))
    return path


@pytest.mark.parametrize(
    ("setting", "value", "user"),
    [
        ("folders", {"answer": "after"}, "folders"),
        ("split", "validation", "huggingface"),
        ("streaming", True, "huggingface"),
        ("fields", ["prompt"], "csv"),
    ],
)
def test_a_setting_of_another_layout_is_named(pairs: Path, setting: str, value: Any, user: str) -> None:
    chosen = config.build(DataConfig, {"name": "jsonl", "path": str(pairs), setting: value})
    with notes.collected() as said:
        assert len(dataset(chosen)) == 1
    assert said == [f"data.{setting} is for data.name={user}; data.name=jsonl does not use it."]


def test_settings_that_are_used_are_not_named(pairs: Path) -> None:
    with notes.collected() as said:
        dataset(DataConfig(name="jsonl", path=str(pairs), count=1))
        dataset(DataConfig(name="folders", path=str(pairs.parent), folders={"answer": ".", "source": "."}))
    assert said == []
