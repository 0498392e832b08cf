"""Every act of the rehearsal at 12 B, on weights in memory."""

from __future__ import annotations

import pytest

from tests.rehearsal.acts import ACTS
from tests.rehearsal.figures import memory, tell
from tests.rehearsal.stage import Stage

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("act", ACTS)
def test_acts(stage: Stage, act: str) -> None:
    ACTS[act](stage, stage.in_memory())
    tell(f"{act}, tensors", memory(stage.device))
