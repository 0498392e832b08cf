"""Training of Fill from text to image."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from diffusers import FluxFillPipeline

from editkit import EditkitError, config
from editkit.shapesworld.recipes.inpaint import InpaintJob, InpaintTrainConfig
from editkit.train.loop import fit
from editkit.types import Conditioning
from tests import ROOT


@pytest.mark.parametrize("let_go", [False, True])
def test_inpainting_starts_as_text_to_image(tmp_path: Path, let_go: bool) -> None:
    values = config.read_yaml(ROOT / "configs" / "tiny" / "fill.yaml")
    changes = (
        "turned=false",
        "latents=cached",
        "load.compile=false",
        "data.count=4",
        f"cache={tmp_path}",
        f"fit.output={tmp_path / 'run'}",
    )
    small = ("fit.steps=2", "fit.batch=2", "fit.optim.warmup=0", "fit.precision=fp32", "fit.device=cpu")
    # Muon multiplies in bf16, for which many CPUs have no instructions.
    few = ("fit.optim.name=adamw", f"cache_texts={let_go}")
    chosen = config.build(InpaintTrainConfig, values, (*changes, *small, *few))
    job = InpaintJob(chosen)
    assert (job.backbone._vae is None) == let_go
    assert not let_go or job.backbone._encoders is None
    batch = job.batch(range(2))
    plan = job.conditioner.with_text(*batch.groups[0])
    drawn = dataclasses.replace(plan, conditioning=Conditioning(text=plan.conditioning.text), role="text")
    with torch.no_grad():
        mine, text = (job.backbone.velocity(batch.x0_BLC, 0.5, each, 1.0) for each in (plan, drawn))
    assert torch.allclose(mine, text, atol=1e-5)
    assert math.isfinite(fit(job, chosen.fit))
    built = FluxFillPipeline.from_pretrained(tmp_path / "run" / "export" / "fill")
    assert built.transformer.config.in_channels == 384


def test_the_input_layer_alone(tmp_path: Path) -> None:
    values = config.read_yaml(ROOT / "configs" / "tiny" / "fill.yaml") | {"trainable": "input"}
    changes = ("load.compile=false", "data.count=2", f"cache={tmp_path}", f"fit.output={tmp_path / 'run'}")
    small = (
        "fit.steps=1",
        "fit.batch=1",
        "fit.optim.warmup=0",
        "dtype=bfloat16",
        "fit.device=cpu",
        "fit.ema=0",
    )
    job = InpaintJob(config.build(InpaintTrainConfig, values, (*changes, *small)))
    transformer = job.backbone.transformer("fill")
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    fit(job, job.config.fit)
    built = FluxFillPipeline.from_pretrained(tmp_path / "run" / "export" / "fill").transformer.state_dict()
    after = transformer.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"x_embedder.weight", "x_embedder.bias"}
    for name in before:
        assert torch.equal(built[name].bfloat16(), after[name].bfloat16()), name
    with pytest.raises(EditkitError, match="start cannot be used with fresh"):
        config.build(InpaintTrainConfig, values | {"fresh": {"vae": "x"}})


def test_data_without_masks_are_told_before_weights_are_loaded(tmp_path: Path) -> None:
    values = config.read_yaml(ROOT / "configs" / "tiny" / "fill.yaml") | {"fresh": {}, "start": None}
    changes = ("backbone=nothing of the kind", "data.name=shapesworld", f"cache={tmp_path}")
    with pytest.raises(EditkitError, match="Inpainting needs pictures with masks"):
        InpaintJob(config.build(InpaintTrainConfig, values, (*changes, f"fit.output={tmp_path / 'run'}")))
