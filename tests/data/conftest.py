"""A folder of pictures for training pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pictures import image

NAMES = ("edit", "target", "mask", "ref")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        image(64 - 16 * (name == "mask"), 64 - 16 * (name == "mask"), number).save(tmp_path / f"{name}.png")
    return tmp_path
