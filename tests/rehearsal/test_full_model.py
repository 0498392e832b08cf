"""ACE++'s full model, whose input is wider than any pipeline's of diffusers."""

from __future__ import annotations

import pytest

import editkit
from tests.rehearsal import acts
from tests.rehearsal.stage import Stage

pytestmark = pytest.mark.slow


def test_latents(stage: Stage, ace: editkit.Editor) -> None:
    acts.full_model(stage, ace)
