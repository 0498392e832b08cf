"""Runs on results made elsewhere, which need no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from editkit.evaluation.settings import RunConfig
from tests.evaluation.finished import done, existing_results


@pytest.fixture
def existing(tmp_path: Path) -> RunConfig:
    return existing_results(tmp_path)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """One that is done; to be read only."""
    made = existing_results(tmp_path_factory.mktemp("finished"))
    done(made)
    return made
