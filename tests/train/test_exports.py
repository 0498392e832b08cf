"""Exports of training can be used, and say what they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor

import editkit
from editkit import adapters, config
from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig
from methods.icedit.moe_handle import Experts
from methods.icedit.moe_layer import MoELinear
from tests.pictures import difference, image
from tests.train.runs import train


def test_export_of_full_training(settings: Any) -> None:
    job, output = train(settings("run", "fit.steps=2", "fit.ema=0.5", "text_encoders=true"))
    folder = output / "export" / "kontext"
    average = load_file(output / "checkpoint-0000002" / "ema.safetensors")
    weights = load_file(output / "checkpoint-0000002" / "weights.safetensors")
    exported = FluxTransformer2DModel.from_pretrained(folder, subfolder="transformer").state_dict()
    for name, tensor in exported.items():
        assert torch.equal(tensor.float(), average[f"transformer.{name}"].bfloat16().float()), name
    assert any(not torch.equal(average[name], weights[name]) for name in weights)
    # Training could go on: the job has its own weights back.
    now = dict(job.objective.named_parameters())
    assert all(torch.equal(now[name], tensor) for name, tensor in weights.items())

    picture, instruction = image(128, 128), "make the red circle blue"
    result = editkit.load(str(folder), "cpu").edit(picture, instruction, seed=1, steps=2, guidance=1.0)
    pipeline = FluxKontextPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    (other,) = pipeline(
        image=picture,
        prompt=instruction,
        width=128,
        height=128,
        max_area=128 * 128,
        _auto_resize=False,
        num_inference_steps=2,
        guidance_scale=1.0,
        max_sequence_length=48,
        generator=torch.Generator().manual_seed(1),
    ).images
    assert difference(result.image, other) <= 1


@pytest.mark.parametrize("adapter", ["lora", "moe"])
def test_export_of_icedit(settings: Any, adapter: str) -> None:
    """Its file is the released layout, and gives what the trained network gives."""
    overrides = ["method=icedit", "fresh.transformer.in_channels=384", "options.loss=right"]
    overrides += ["options.moe.rank=3"] if adapter == "moe" else []
    job, output = train(settings("run", *overrides, trainable="lora"))
    editor = editkit.Editor(job.backbone, {"icedit": {"adapter": None}})
    editor.use_adapters(["icedit" if adapter == "moe" else "default"], method="icedit")
    picture = image(128, 128)

    def edit() -> Any:
        return editor.edit(picture, "make the red circle blue", "icedit", seed=1, steps=2).image

    trained = edit()
    transformer = job.backbone.transformer("fill")
    layers = {name: layer for name, layer in transformer.named_modules() if isinstance(layer, MoELinear)}
    if adapter == "moe":
        Experts(transformer, layers, "icedit", plain=True).eject()
    else:
        adapters.eject(transformer, "default")
    assert bool(layers) == (adapter == "moe")
    editor.use_adapters([], method="icedit")
    assert difference(edit(), trained) > 0
    editor.load_adapter(output / "export" / adapters.FILE, "icedit")
    assert difference(edit(), trained) == 0


@pytest.mark.parametrize("more", [[], ["lora.dora=true", "lora.rslora=true", "lora.alpha=4"]])
def test_export_of_a_lora(settings: Any, more: list[str]) -> None:
    job, output = train(settings("run", "fit.optim.lr=0.1", *more, trainable="lora"))
    trained = job.backbone.transformer("kontext").eval()
    fresh = EditJob(settings("other")).backbone.transformer("kontext").eval()
    batch = job.batch(range(4))
    plan = job.conditioner.with_text(*batch.groups[0])

    @torch.no_grad()
    def velocity(transformer: Any) -> Tensor:
        job.backbone.transformers[job.backbone.role("kontext").key] = transformer
        return job.backbone.velocity(batch.x0_BLC, 0.5, plan, 1.0)

    expected, before = velocity(trained), velocity(fresh)
    adapters.load_adapter(fresh, output / "export", "mine")
    adapters.enable(fresh, ["mine"])
    assert torch.allclose(velocity(fresh), expected, atol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-2)


def test_a_card_lies_beside_the_weights(settings: Any) -> None:
    looks = ("fit.validate_every=2", "validation.examples=2", "validation.steps=1")
    chosen = settings("run", "fit.steps=2", *looks, trainable="lora")
    _, output = train(chosen)
    card = (output / "export" / "README.md").read_text()
    assert card.startswith("---\nbase_model: random weights\nlibrary_name: diffusers\nlicense: apache-2.0\n")
    assert "| loss |" in card
    assert "| held-out loss |" in card
    assert (output / "export" / "samples.png").is_file()
    versions = json.loads((output / "export" / "environment.json").read_text())
    assert torch.__version__.startswith(versions["torch"].split("+")[0])
    again = config.build(EditTrainConfig, config.read_yaml(output / "export" / "config.yaml"))
    assert again == chosen
