"""Python on pages edits in few steps, as the commands there do with --steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backbones.specs import FAMILIES

STEPS = 2


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits on tiny that do not say their steps take this many."""
    tiny = FAMILIES["tiny"]
    roles = {name: replace(role, steps=STEPS) for name, role in tiny.roles.items()}
    monkeypatch.setitem(FAMILIES, "tiny", replace(tiny, roles=roles))
