"""Training from folders of FLUX.1's config, resumed and loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal import training
from tests.rehearsal.stage import Stage

EXPERTS = {"moe": {"experts": 2, "rank": 2}}


@pytest.mark.parametrize(
    ("method", "options"),
    [("kontext", {"sizes": "exact"}), ("icedit", EXPERTS)],
    ids=["kontext", "icedit"],
)
def test_stopped_resumed_and_loaded(
    stage: Stage, method: str, options: dict[str, Any], tmp_path: Path
) -> None:
    if method == "icedit":
        options = options | {"width": stage.scale.side // 2 // 16 * 16}
    training.trained(stage, method, options, tmp_path)
