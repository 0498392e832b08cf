"""ICEdit and ACE++ on a folder of FLUX.1 Fill's config, with adapters in the released layouts."""

from __future__ import annotations

import pytest

import editkit
from tests.rehearsal import acts
from tests.rehearsal.stage import Stage

pytestmark = pytest.mark.slow


def test_icedit(stage: Stage, fill: editkit.Editor) -> None:
    acts.icedit(stage, fill)


def test_aceplus(stage: Stage, fill: editkit.Editor) -> None:
    acts.aceplus(stage, fill)


def test_aceplus_with_mask_and_reference(stage: Stage, fill: editkit.Editor) -> None:
    acts.aceplus_references(stage, fill)
