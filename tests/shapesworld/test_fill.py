"""Training of role `fill` from text to image."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxFillPipeline

from editkit import EditkitError, config
from editkit.shapesworld.recipes.fill import FillConfig, FillJob
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from editkit.types import Conditioning
from tests import ROOT

# Muon multiplies in bf16, for which many CPUs have no instructions.
SMALL = (
    "load.compile=false",
    "fit.steps=2",
    "fit.batch=2",
    "fit.ema=0",
    "fit.optim.warmup=0",
    "fit.optim.name=adamw",
    "fit.device=cpu",
)


def settings(folder: Path, *changes: str, **values: Any) -> EditTrainConfig:
    shipped = config.read_yaml(ROOT / "configs" / "tiny" / "fill.yaml")
    del shipped["mixture"]
    shipped["data"] = {"name": "shapesworld masked", "count": 4, "kinds": {"local editing": 1.0}}
    places = (f"cache={folder}", f"fit.output={folder / 'run'}")
    return config.build(EditTrainConfig, shipped | values, (*SMALL, *places, *changes))


@pytest.mark.parametrize("let_go", [False, True])
def test_a_wider_transformer_starts_as_text_to_image(tmp_path: Path, let_go: bool) -> None:
    chosen = settings(tmp_path, "latents=cached", "fit.precision=fp32", f"cache_texts={let_go}")
    job = EditJob(chosen)
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


def test_the_recipe_turns_heads_to_the_left_half(tmp_path: Path) -> None:
    job = FillJob(settings(tmp_path))
    wide, narrow = (dict(job.backbone.transformer(role).named_parameters()) for role in ("fill", "text"))
    other = {
        name for name in narrow if not torch.equal(wide[name][..., : narrow[name].shape[-1]], narrow[name])
    }
    assert other
    assert all(".attn.to_k." in name for name in other)
    x_embedder, channels = wide["x_embedder.weight"], narrow["x_embedder.weight"].shape[1]
    assert torch.equal(x_embedder[:, channels : 2 * channels], narrow["x_embedder.weight"])


@pytest.mark.parametrize("changes", [("start=null",), ("trainable=lora",)])
def test_the_recipe_refuses_to_turn_heads_of_a_trained_fill(changes: tuple[str, ...]) -> None:
    shipped = config.read_yaml(ROOT / "configs" / "tiny" / "fill.yaml")
    assert config.build(FillConfig, shipped).recipe == "fill"
    with pytest.raises(EditkitError, match="recipe=edit to train a fill further"):
        config.build(FillConfig, shipped, changes)


def test_the_input_layer_alone(tmp_path: Path) -> None:
    job = EditJob(settings(tmp_path, "fit.steps=1", "fit.batch=1", "dtype=bfloat16", trainable="input"))
    transformer = job.backbone.transformer("fill")
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    fit(job, job.config.fit)
    built = FluxFillPipeline.from_pretrained(tmp_path / "run" / "export" / "fill").transformer.state_dict()
    after = transformer.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"x_embedder.weight", "x_embedder.bias"}
    for name in before:
        assert torch.equal(built[name].bfloat16(), after[name].bfloat16()), name


def test_a_start_is_not_for_a_fresh_backbone(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match="start cannot be used with fresh"):
        settings(tmp_path, fresh={"vae": "x"})
