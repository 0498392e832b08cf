"""Weights that are known to edit in few steps: own exports, published adapters, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from editkit import EditkitError, config, notes
from editkit.backbone import provider
from editkit.inference import few_steps, provenance
from editkit.inference.few_steps import FewSteps
from editkit.train.settings import EditTrainConfig
from tests.command_line import Cli, picture, refused


def export(folder: Path, *changes: str) -> Path:
    """An export of a LoRA with its run's config."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    save_file(
        {
            "lora_unet_final_layer_linear.lora_down.weight": torch.randn(2, 64, generator=generator),
            "lora_unet_final_layer_linear.lora_up.weight": torch.randn(64, 2, generator=generator),
        },
        folder / "pytorch_lora_weights.safetensors",
    )
    settings = asdict(config.build(EditTrainConfig, {}, changes))
    (folder / few_steps.OWN).write_text(
        yaml.safe_dump({key: settings[key] for key in ("distill", "guidance")})
    )
    return folder


def test_published_adapters_belong_to_their_weights() -> None:
    dev = provider().load("black-forest-labs/FLUX.1-dev", device="cpu")
    found = few_steps.find(dev, "kontext", "text", {})
    assert found.adapter == "hf://ByteDance/Hyper-SD/Hyper-FLUX.1-dev-8steps-lora.safetensors"
    assert (found.steps, found.scale) == (8, 0.125)
    turbo = few_steps.published(few_steps.TABLE)[-1]["adapter"]
    assert few_steps.find(dev, "kontext", "text", {turbo: 1.0}) == FewSteps(steps=8, guidance=3.5)
    repository = turbo.removeprefix("hf://").rpartition("/")[0]
    assert few_steps.find(dev, "kontext", "text", {repository: 1.0}) == FewSteps(steps=8, guidance=3.5)
    with pytest.raises(EditkitError, match="were both distilled"):
        few_steps.find(dev, "kontext", "text", {found.adapter: 1.0, turbo: 1.0})
    assert few_steps.find(dev, "kontext", "text", {found.adapter: 1.0}) == found, "its published scale"
    own = few_steps.find(dev, "kontext", "text", {found.adapter: 0.2})
    assert (own.steps, own.adapter) == (8, None), "a scale that was given stays"
    with notes.collected() as told:
        assert few_steps.find(dev, "kontext", "text", {"style.safetensors": 1.0}).adapter == found.adapter
    assert "adds hf://ByteDance" in told[0]


@pytest.mark.parametrize(
    ("name", "role"), [("flux1-dev", "kontext"), ("flux1-krea", "text"), ("tiny", "fill")]
)
def test_others_are_refused(name: str, role: str) -> None:
    with pytest.raises(EditkitError, match=f"are known for icedit on {name}; train one") as caught:
        few_steps.find(provider().load(name, device="cpu"), "icedit", role, {})
    assert str(caught.value).count(". ") == 0


def test_an_export_says_its_steps(tmp_path: Path) -> None:
    tiny = provider().load("tiny", device="cpu")
    own = export(tmp_path / "own", "distill.ladd.steps=2", "guidance=1.5")
    plain = export(tmp_path / "plain")
    assert few_steps.find(tiny, "kontext", "kontext", {str(plain): 1.0, str(own): 1.0}) == FewSteps(
        steps=2, guidance=1.5
    )
    file = own / "pytorch_lora_weights.safetensors"
    assert few_steps.find(tiny, "kontext", "kontext", {str(file): 1.0}).steps == 2
    another = export(tmp_path / "another", "distill.progressive={steps: 7}")
    assert few_steps.find(tiny, "kontext", "kontext", {str(another): 1.0}).steps == 7
    with pytest.raises(EditkitError, match="No weights or adapter for few steps are known"):
        few_steps.find(tiny, "kontext", "fill", {str(plain): 1.0})


def test_tiny_ships_its_own() -> None:
    tiny = provider().load("tiny", device="cpu")
    found = few_steps.find(tiny, "kontext", "kontext", {})
    assert found.adapter is not None
    assert Path(found.adapter).is_dir()
    again = few_steps.find(tiny, "kontext", "kontext", {found.adapter: 1.0})
    assert (again.steps, again.adapter) == (found.steps, None), "it is in use already"


@pytest.mark.parametrize(
    "settings", ["distill: {ladd: {}}", "distill: {ladd: {steps: 2}}", "distill: {ladd: 4}"]
)
def test_a_config_without_steps_is_refused(tmp_path: Path, settings: str) -> None:
    own = export(tmp_path / "own", "distill.ladd.steps=2")
    (own / few_steps.OWN).write_text(settings)
    with pytest.raises(
        EditkitError, match=r"config.yaml lacks the steps of distill, or guidance; give the folder"
    ):
        few_steps.find(provider().load("tiny", device="cpu"), "kontext", "kontext", {str(own): 1.0})


def test_fast_on_the_command_line(cli: Cli, random_pipeline: Path, tmp_path: Path) -> None:
    source, output = picture(tmp_path / "image.png"), tmp_path / "o.png"
    own = export(tmp_path / "own", "distill.ladd.steps=2")
    arguments = ["edit", source, "make it blue", "-b", random_pipeline, "-o", output, "--fast"]
    assert cli(*arguments, "--lora", f"{own}=0.5").status == 0
    told = provenance.read_recipe(output)
    assert (told["steps"], told["guidance"], told["lora"]) == (2, 1.0, {str(own): 0.5})
    refused(cli(*arguments), "No weights or adapter for few steps are known")
    refused(cli(*arguments, "--lora", own, "--steps", 3), "leave --steps or --fast out")


def test_fast_in_a_batch(cli: Cli, random_pipeline: Path, tmp_path: Path) -> None:
    """All items get its steps, one that says others fails, and the folder remembers what was chosen."""
    picture(tmp_path / "a.png")
    rows = [{"id": "a"}, {"id": "b", "steps": 5}, {"id": "c", "method": "icedit"}]
    lines = [json.dumps({"image": "a.png", "instruction": "make it blue", **row}) for row in rows]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    own = export(tmp_path / "own", "distill.ladd.steps=2")
    arguments = ["batch", tmp_path / "m.jsonl", "--out", tmp_path / "out", "-b", random_pipeline, "--fast"]
    told = cli(*arguments, "--lora", own)
    assert (told.status, "2 of 3 items failed" in told.err) == (2, True), told
    assert "b: --fast chooses steps and guidance for kontext; leave steps out" in told.err
    assert "c: --fast chooses steps and guidance for kontext; leave method out" in told.err
    recipe = provenance.read_recipe(tmp_path / "out" / "a.png")
    assert (recipe["steps"], recipe["guidance"], recipe["lora"]) == (2, 1.0, {str(own): 1.0})
    refused(cli(*arguments, "--lora", own, "--guidance", 3), "leave --guidance or --fast out")
    refused(cli(*arguments), "No weights or adapter for few steps are known")
    refused(cli(*arguments[:-1], "--lora", own), "was begun with fast=")
    settings = yaml.safe_load((own / few_steps.OWN).read_text())
    settings["distill"]["ladd"]["steps"] = 3
    (own / few_steps.OWN).write_text(yaml.safe_dump(settings))
    refused(cli(*arguments, "--lora", own), "was begun with fast=")


@pytest.mark.parametrize("spelled", ["{}", "{}/pytorch_lora_weights.safetensors", "{}/../few-steps"])
def test_the_shipped_adapter_is_not_added_to_itself(spelled: str) -> None:
    tiny = provider().load("tiny", device="cpu")
    shipped = few_steps.published(few_steps.TABLE)[0]["adapter"]
    found = few_steps.find(tiny, "kontext", "kontext", {spelled.format(shipped): 1.0})
    assert (found.steps, found.adapter) == (4, None)
