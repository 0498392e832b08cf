"""Batches of several sizes: padding changes nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

import editkit
from backbones.flux import Flux
from editkit import config, flow
from editkit.data import padding
from editkit.types import EditInputs
from tests.pictures import photo


@torch.no_grad()
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("aceplus", {}),
        ("aceplus", {"layout": "sequence"}),
        ("aceplus", {"layout": "sequence", "model": "full", "encoding": "mode"}),
        ("aceplus", {"model": "full"}),
        ("icedit", {}),
        ("kontext", {"sizes": "exact"}),
        ("kontext", {"sizes": "exact", "context": "cached"}),
    ],
)
def test_padding_changes_nothing(random_flux: Flux, method: str, options: dict[str, Any]) -> None:
    """Canvases of several sizes in one batch give each what it gives alone, its loss too."""
    record = editkit.registry.method(method)
    made = record.conditioner(random_flux, config.build(record.config, options))
    trainer = record.trainer(random_flux, made.config)
    sizes = [(128, 64), (64, 128), (96, 96)]
    plans, noises, weights = [], [], []
    for number, size in enumerate(sizes):
        given = EditInputs(
            prompts=("make it red",),
            source_BCHW=photo(*size, number),
            size=size,
            references=(photo(32, 32, 7),) * number if method != "icedit" else (),
        )
        plan = made.plan(given)
        plans.append(plan)
        even_BL = torch.full((1, plan.canvas.width * plan.canvas.height // 256), 1.0)
        found_BL = trainer.weights(plan, given)
        weights.append(even_BL / even_BL.sum() if found_BL is None else found_BL)
        noises.append(random_flux.noise(plan.canvas, [torch.Generator().manual_seed(number)]))
    ids = [
        plan.conditioning.ids_L3
        if plan.conditioning.ids_L3 is not None
        else random_flux.grid_ids(plan.canvas.width, plan.canvas.height)
        for plan in plans
    ]
    whole, where, count = padding.merge_plans(plans, ids, [1] * 3)
    assert count > min(len(each) for each in ids)
    x_BLC = torch.cat([padding.pad_tokens(n, w, count) for n, w in zip(noises, where, strict=True)])
    text = padding.merge_texts([plan.conditioning.text for plan in plans])
    whole = dataclasses.replace(whole, conditioning=dataclasses.replace(whole.conditioning, text=text))
    times = torch.tensor((0.3, 0.6, 0.9))
    together = random_flux.velocity(x_BLC, times, whole, 2.0)
    losses = []
    for number, plan in enumerate(plans):
        alone = random_flux.velocity(noises[number], times[number : number + 1], plan, 2.0)
        assert torch.allclose(together[number, where[number]], alone[0], atol=1e-4)
        losses.append(float(flow.loss(alone, torch.zeros_like(alone), weights[number])))
    heavy_BL = torch.cat([padding.pad_tokens(w, p, count) for w, p in zip(weights, where, strict=True)])
    joined = float(flow.loss(together, torch.zeros_like(together), heavy_BL))
    assert joined == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    # The mask is what does it.
    open_ = dataclasses.replace(whole.conditioning, valid_BN=None)
    seen = random_flux.velocity(x_BLC, times, dataclasses.replace(whole, conditioning=open_), 2.0)
    assert not torch.allclose(seen[0, where[0]], together[0, where[0]], atol=1e-2)


@torch.no_grad()
def test_a_given_half_of_several_sizes_is_refused(random_flux: Flux) -> None:
    record = editkit.registry.method("icedit")
    made = record.conditioner(random_flux, config.build(record.config, {"context": "cached"}))
    plans = [
        made.plan_without_text(EditInputs(prompts=("x",), source_BCHW=photo(*size), size=size))
        for size in ((64, 64), (128, 64))
    ]
    ids = [random_flux.grid_ids(plan.canvas.width, plan.canvas.height) for plan in plans]
    with pytest.raises(editkit.EditkitError, match="use pictures of one size, or context=joint"):
        padding.merge_plans(plans, ids, [1, 1])
