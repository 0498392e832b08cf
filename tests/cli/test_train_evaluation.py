"""A benchmark before and after training, from the same config."""

from __future__ import annotations

import json
from typing import Any

import pytest

from editkit import EditkitError, config
from editkit.train.settings import EditTrainConfig
from tests.cases import Place
from tests.command_line import Cli


@pytest.mark.slow
@pytest.mark.parametrize("trained", [{"lora": {"rank": 2}}, {"trainable": "full"}], ids=["lora", "full"])
def test_a_run_is_scored_before_and_after(trained: dict[str, Any], cli: Cli, place: Place) -> None:
    values: dict[str, Any] = {
        "backbone": str(place.backbone),
        **trained,
        "cache": "cache",
        "data": {"count": 4, "kinds": {"recolour": 1.0}},
        "evaluation": {"limit": 2, "steps": 1, "metrics": ["pixels"]},
        "fit": {
            "output": "run",
            "steps": 1,
            "batch": 2,
            "precision": "fp32",
            "device": "cpu",
            "trackers": [],
        },
    }
    (place.folder / "run.yaml").write_text(json.dumps(values))  # JSON is YAML
    found = cli("train", "run.yaml", "fit.optim.lr=0.1")
    assert found.status == 0, found.err
    assert "before (A) and after (B) training:" in found.out
    compared = json.loads((place.folder / "run" / "evaluation" / "comparison.json").read_text())
    assert {each["n"] for each in compared} == {2}
    assert any(each["first"] != each["second"] for each in compared)
    for when in ("before", "after"):
        assert (place.folder / "run" / "evaluation" / when / "report.html").is_file()


def test_new_weights_have_nothing_to_score_before() -> None:
    with pytest.raises(EditkitError, match="evaluation needs weights that edit before the run"):
        config.build(EditTrainConfig, {"fresh": {"vae": "x"}, "evaluation": {"benchmark": "shapesworld"}})
