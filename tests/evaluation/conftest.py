"""A run on results made elsewhere, which needs no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from editkit.evaluation.settings import RunConfig
from tests.evaluation.finished import existing_results


@pytest.fixture
def existing(tmp_path: Path) -> RunConfig:
    return existing_results(tmp_path)
