"""Each method edits a photograph with its official weights, and gives what diffusers gives."""

from __future__ import annotations

import pytest

from tests.weights import official as smoke
from tests.weights.conftest import FILL, KONTEXT, Official

pytestmark = pytest.mark.weights


def test_kontext(official: Official) -> None:
    smoke.kontext(official(KONTEXT))


def test_icedit(official: Official) -> None:
    smoke.icedit(official(FILL, adapters=("lora", "experts")))


def test_aceplus(official: Official) -> None:
    smoke.aceplus(official(FILL, adapters=("local",)))


def test_full_model(official: Official) -> None:
    smoke.full_model(official(FILL, adapters=("full",)))
