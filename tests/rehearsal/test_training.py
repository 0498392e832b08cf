"""Training from a folder of FLUX.1's config: a step, its checkpoint, its adapter loaded again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rehearsal import training
from tests.rehearsal.stage import Stage

pytestmark = pytest.mark.slow


def test_a_step(stage: Stage, tmp_path: Path) -> None:
    training.trained(stage, "kontext", {"sizes": "exact"}, tmp_path, steps=1)
