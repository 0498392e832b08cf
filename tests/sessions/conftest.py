"""An editor and a picture for sessions and replays."""

from __future__ import annotations

from pathlib import Path

import pytest

import editkit
from tests.pictures import image


@pytest.fixture(scope="session")
def editor(random_pipeline: Path) -> editkit.Editor:
    """An editor on random weights that a recipe can name."""
    return editkit.load(str(random_pipeline), "cpu")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    image(48, 40).save(tmp_path / "source.png")
    return tmp_path / "source.png"
