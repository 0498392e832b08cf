"""Configs: defaults, values and overrides, and what a wrong one is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from editkit import EditkitError, adapters, config
from editkit.evaluation.settings import RunConfig
from editkit.train.settings import EditTrainConfig


def test_defaults_values_overrides_in_that_order() -> None:
    built = config.build(
        EditTrainConfig, {"fit": {"steps": 7, "batch": 3}, "trainable": "full"}, ["fit.steps=9"]
    )
    assert isinstance(built, EditTrainConfig)
    assert (built.fit.steps, built.fit.batch, built.fit.accumulate) == (9, 3, 1)
    assert built.trainable == "full"
    assert built.lora == adapters.LoraOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.guidance = 2.0


@pytest.mark.parametrize(
    ("values", "overrides", "right"),
    [
        ({"trainabel": "full"}, [], "trainable"),
        ({"fit": {"step": 3}}, [], "fit.steps"),
        ({}, ["fit.lr=1"], "fit.optim.lr"),
        ({}, ["lr=1"], "fit.optim.lr"),
        ({}, ["fit.optim.warmpu=1"], "fit.optim.warmup"),
        ({}, ["lora.rnk=1"], "lora.rank"),
    ],
)
def test_a_misspelt_key_names_the_right_one(values: dict[str, Any], overrides: list[str], right: str) -> None:
    with pytest.raises(EditkitError, match=f"Unknown key .*did you mean '{right}'"):
        config.build(EditTrainConfig, values, overrides)


def test_a_key_that_is_like_no_other_is_told_the_known_ones() -> None:
    with pytest.raises(EditkitError, match=r"known keys are .*fit\.optim\.lr, fit\.optim\.lr_of"):
        config.build(EditTrainConfig, {}, ["fit.optim.learning_rate=1"])


@pytest.mark.parametrize(
    ("values", "overrides"),
    [
        ({"fit": {"steps": 0}}, []),
        ({"fit": {"steps": "many"}}, []),
        ({"fit": 3}, []),
        ({"trainable": "half"}, []),
        ({"text_encoders": True}, []),
        ({}, ["fit.optim.name=sgd"]),
        ({}, ["fit.optim.decay=0"]),
        ({}, ["fit.optim.lr=-1"]),
        ({}, ["fit.optim.lr=.nan"]),
        ({}, ["fit.optim.lr_of.t5=.inf"]),
        ({}, ["fit.optim.weight_decay=-5"]),
        ({}, ["fit.optim.betas=[2, 0.9]"]),
        ({}, ["fit.optim.clip=0"]),
        ({}, ["fit.optim.warmup=-3"]),
        ({}, ["fit.ema=1"]),
        ({}, ["fit.spike=.nan"]),
        ({}, [f"fit.seed={2**63}"]),
        ({"fit": {"output": ""}}, []),
        ({}, ["lora.rank=0"]),
        ({}, ["lora.dropout=1.5"]),
        ({"data": {"path": "pairs"}}, []),
        ({"data": {"name": "shapesworld masked", "columns": {"answer": "a"}}}, []),
        ({}, ["lora.alpha=.inf"]),
        ({}, ["guidance=-3"]),
        ({}, ["guidance=.nan"]),
        ({}, ["time_std=-1"]),
        ({}, ["changed_weight=.inf"]),
        ({}, ["data.count=0"]),
        ({}, ["fit.precision=fp8"]),
        ({}, ["fit.steps"]),
        ({}, ["guidance=[1"]),
        ({"guidance": None}, []),
    ],
)
def test_bad_values_are_one_sentence(values: dict[str, Any], overrides: list[str]) -> None:
    with pytest.raises(EditkitError) as caught:
        config.build(EditTrainConfig, values, overrides)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"methods": "kontext"}, "at methods: give a list, such as"),
        ({"options": {"kontext": 3}}, "at options.kontext: give a mapping of keys to values"),
        ({"results": ["folder"]}, "a list stands where a mapping"),
        ({"judge": "openai"}, "at judge: give a mapping"),
    ],
)
def test_a_value_of_another_kind_is_told_plainly(values: dict[str, Any], words: str) -> None:
    with pytest.raises(EditkitError, match=words):
        config.build(RunConfig, {"benchmark": "jsonl", "out": "run", **values})


def test_what_is_no_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("fit:\n  steps: 1\n  steps: 2\n")
    with pytest.raises(EditkitError, match=r"run\.yaml is not YAML \(found duplicate key steps in line 3\)"):
        config.read_yaml(tmp_path / "run.yaml")
