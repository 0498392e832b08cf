"""Behaviour: a run goes on under the settings that its checkpoint is of, or says what is other."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from backbones.flux import Flux
from editkit import EditkitError, adapters, config
from editkit.errors import EditkitWarning
from editkit.train import base_weights, checkpoints, optim, resuming
from editkit.train.config import OptimConfig
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.preflight import check_run
from editkit.train.settings import EditTrainConfig
from tests.pictures import image
from tests.train.conftest import Configured

BASE = ("lora.rank=2", "data.name=jsonl", "data.path=a.jsonl", "mixture.known.data.count=9")


def settings(folder: Path, *changes: str) -> EditTrainConfig:
    return config.build(EditTrainConfig, {"fit": {"output": str(folder)}}, [*BASE, *changes])


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run that has a checkpoint."""
    weight = {"weight": nn.Parameter(torch.zeros(2, 2))}
    made = optim.make_optimizers(weight.items(), OptimConfig())
    checkpoints.save(tmp_path, 1, weight, made, None, 1, resuming.kept(settings(tmp_path)))
    return tmp_path


def resumed(folder: Path, *changes: str) -> list[str]:
    """What is said when the run goes on with some changes."""
    chosen = settings(folder, "fit.resume=latest", *changes)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert check_run(chosen.fit, chosen) == folder / "checkpoint-0000001"
    return [str(each.message) for each in said]


CHANGES = (
    "lora.alpha=200",
    "lora.rslora=true",
    "lora.targets=[to_q]",
    "lora.exclude=proj_out",
    "trainable=full",
    "method=icedit",
    "options.area=64",
    "guidance=3.5",
    "weighting=cosmap",
    "data.path=b.jsonl",
    "data.count=3",
    "mixture.known.data.count=8",
    "mixture.known.prior=true",
    "fit.seed=1",
    "fit.batch=3",
    "fit.ema=0.9",
    "load.quantization.type=BitsAndBytesConfig",
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_makes_another_run_is_refused_by_name_or_allowed(begun: Path, change: str) -> None:
    name = change.partition("=")[0].replace("fit.batch", "fit.samples")
    with pytest.raises(EditkitError) as caught:
        resumed(begun, change)
    assert f"{name}=" in str(caught.value)
    assert f"fit.allow_changes=[{name}]" in str(caught.value)
    (said,) = resumed(begun, change, f"fit.allow_changes=[{name}]")
    assert f"goes on with {name}=" in said


@pytest.mark.parametrize("change", ["fit.optim.name=prodigy", "fit.optim.name=schedulefree"])
def test_another_optimizer_is_never_gone_on_with(begun: Path, change: str) -> None:
    for more in ([], ["fit.allow_changes=[fit]"]):
        with pytest.raises(EditkitError, match=r'fit\.optim\.name="adamw".*start anew') as caught:
            resumed(begun, change, *more)
        assert "allow_changes" not in str(caught.value)


def test_rates_and_lengths_and_what_is_watched_may_change(begun: Path) -> None:
    changes = ("fit.steps=9", "fit.optim.lr=1", "fit.optim.schedule=linear", "fit.save_every=2")
    assert resumed(begun, *changes, "fit.batch=8", "fit.accumulate=2", "cache=elsewhere") == []


def test_steps_that_end_before_the_checkpoint_are_refused(tmp_path: Path) -> None:
    """The export of its last step would be written over by that of the same step, without a word."""
    weight = {"weight": nn.Parameter(torch.zeros(2, 2))}
    made = optim.make_optimizers(weight.items(), OptimConfig())
    for step in (2, 5):
        checkpoints.save(tmp_path, step, weight, made, None, 2, resuming.kept(settings(tmp_path)))
    with pytest.raises(
        EditkitError, match=r"checkpoint-0000005 is of step 5, and fit\.steps=4 ends before it"
    ):
        check_run(settings(tmp_path, "fit.resume=latest", "fit.steps=4").fit)
    earlier = tmp_path / "checkpoint-0000002"
    assert check_run(settings(tmp_path, f"fit.resume={earlier}", "fit.steps=4").fit) == earlier
    assert check_run(settings(tmp_path, "fit.resume=latest", "fit.steps=5").fit) is not None


def test_a_beginning_allows_all_below_it(begun: Path) -> None:
    said = resumed(begun, "data.path=b.jsonl", "data.count=3", "fit.allow_changes=[data]")
    assert len(said) == 2


def test_changed_data_are_refused_or_allowed(tmp_path: Path, configured: Configured) -> None:
    path = tmp_path / "pairs.jsonl"
    image(32, 32).save(tmp_path / "a.png")
    row = {"source": "a.png", "answer": "a.png", "instruction": "make it red"}

    def go_on(*changes: str, words: str = "make it red") -> float:
        path.write_text(json.dumps(row | {"instruction": words}))
        data = f"data={{name: jsonl, path: {path}}}"
        chosen = configured(tmp_path / "run", data, "fit.batch=1", "fit.save_every=1", *changes)
        return fit(EditJob(chosen), chosen.fit)

    go_on("fit.steps=1")
    go_on("fit.steps=2", "fit.resume=latest")
    with pytest.raises(
        EditkitError, match=r"The records of data are others .*allow_changes=\[data\.content\]"
    ):
        go_on("fit.steps=3", "fit.resume=latest", words="make it big")
    with pytest.warns(EditkitWarning, match="The records of data are others .* goes on with them"):
        go_on("fit.steps=3", "fit.resume=latest", "fit.allow_changes=[data]", words="make it big")
    go_on("fit.steps=4", "fit.resume=latest", words="make it big")  # as the last checkpoint is of it


@pytest.mark.parametrize(
    ("part", "trained", "noticed"),
    [
        ("vae", "full", True),
        ("text_encoder_2", "full", True),
        ("text_encoder_2", "full with encoders", False),
        ("transformer", "lora", True),
        ("transformer", "full", False),
    ],
)
def test_changed_weights_are_refused_or_allowed(
    tmp_path: Path, random_pipeline: Path, part: str, trained: str, noticed: bool
) -> None:
    base = tmp_path / "base"
    shutil.copytree(random_pipeline, base)

    def go_on(steps: int, *changes: str) -> float:
        values = {
            "backbone": str(base),
            "trainable": trained.split()[0],
            "text_encoders": "encoders" in trained,
            "lora": {"rank": 2},
            "cache": str(tmp_path / "cache"),
            "data": {"count": 2, "kinds": {"recolour": 1.0}},
            "fit": {"output": str(tmp_path / "run"), "batch": 1, "precision": "fp32", "device": "cpu"},
        }
        chosen = config.build(EditTrainConfig, values, [f"fit.steps={steps}", "fit.save_every=1", *changes])
        return fit(EditJob(chosen), chosen.fit)

    go_on(1)
    (file,) = (base / part).glob("*.safetensors")
    state = load_file(file)
    save_file({name: value * 1.1 for name, value in state.items()}, file)
    if noticed:
        with pytest.raises(EditkitError, match=r"The weights of backbone are others .*\[backbone\.content\]"):
            go_on(2, "fit.resume=latest")
        with pytest.warns(EditkitWarning, match=r"The weights of backbone are others .* goes on with them"):
            go_on(2, "fit.resume=latest", "fit.allow_changes=[backbone]")
    else:
        go_on(2, "fit.resume=latest")


@pytest.mark.parametrize("name", [adapters.FILE, "mine.sft"])
def test_a_changed_adapter_or_its_config_is_noticed(name: str, random_flux: Flux, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"weights")
    chosen = config.build(EditTrainConfig, {"backbone": "tiny", "adapter": str(tmp_path)})
    found = [base_weights.content(random_flux, "kontext", chosen)]
    (tmp_path / "adapter_config.json").write_text("{}")
    found.append(base_weights.content(random_flux, "kontext", chosen))
    (tmp_path / name).write_bytes(b"other weights")
    found.append(base_weights.content(random_flux, "kontext", chosen))
    assert len(set(found)) == 3
    (tmp_path / name).unlink()
    with pytest.raises(EditkitError, match=r"not a \.safetensors file that exists"):
        base_weights.content(random_flux, "kontext", chosen)


def test_a_checkpoint_without_settings_says_so(begun: Path) -> None:
    file = begun / "checkpoint-0000001" / "state.json"
    state = json.loads(file.read_text())
    del state["settings"]
    file.write_text(json.dumps(state))
    (said,) = resumed(begun, "lora.alpha=200")
    assert "keeps no settings" in said


@pytest.mark.parametrize(
    ("before", "now"),
    [("adamw", "prodigy"), ("prodigy", "adamw"), ("adamw", "schedulefree")],
)
def test_the_state_of_another_optimizer_does_not_fit(tmp_path: Path, before: str, now: str) -> None:
    weight = {"weight": nn.Parameter(torch.zeros(2, 2))}

    def made(name: str) -> Sequence[torch.optim.Optimizer]:
        return optim.make_optimizers(weight.items(), OptimConfig(name=name))

    folder = checkpoints.save(tmp_path, 1, weight, list(made(before)), None, 1)
    with pytest.raises(EditkitError, match="state of another optimizer"):
        checkpoints.load_checkpoint(folder, weight, list(made(now)), None)
