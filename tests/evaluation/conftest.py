"""Runs on results made elsewhere, which need no model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from editkit.evaluation.settings import RunConfig
from tests.evaluation.finished import done, existing_results
from tests.evaluation.judged import good
from tests.judges.rubric_endpoint import Served, serving


@pytest.fixture
def existing(tmp_path: Path) -> RunConfig:
    return existing_results(tmp_path)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """One that is done; to be read only."""
    made = existing_results(tmp_path_factory.mktemp("finished"))
    done(made)
    return made


@pytest.fixture
def served() -> Iterator[Served]:
    """An endpoint whose judge answers well."""
    with serving(good) as made:
        yield made
