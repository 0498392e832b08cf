"""Kept keys and values: exact without any, with adapters, in a batch, with guidance, and in training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig
from torch import Tensor

from backbones.attention_memory import use_memory
from backbones.flux import Flux
from editkit import adapters, config, registry
from editkit.adapters.lora_options import LoraOptions
from editkit.errors import EditkitError
from editkit.key_values import KeyValues
from editkit.types import EditInputs, Plan
from tests.pictures import photo

T = 0.6


def planned(flux: Flux, context: str, rows: int = 1, name: str = "kontext", **options: Any) -> Plan:
    method = registry.method(name)
    made = method.conditioner(flux, config.build(method.config, {"context": context, **options}))
    source_BCHW = torch.cat([photo(64, 64, row) for row in range(rows)])
    inputs = EditInputs(prompts=("make it blue",) * rows, negatives=("red",) * rows, source_BCHW=source_BCHW)
    with torch.no_grad():
        return made.plan(inputs)


def noise(flux: Flux, plan: Plan, rows: int = 1) -> Tensor:
    return flux.noise(plan.canvas, [torch.Generator().manual_seed(row) for row in range(rows)])


@pytest.fixture
def adapted(random_flux: Flux) -> Iterator[Flux]:
    """The network with a LoRA of random weights."""
    transformer = random_flux.transformer("kontext")
    adapters.attach(transformer, LoraOptions(rank=4))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        for name, weight in transformer.named_parameters():
            if ".lora_B." in name:
                weight.normal_(std=0.05)
    yield random_flux
    transformer.unload_lora()
    transformer.requires_grad_(False)
    random_flux.contexts.clear()


@torch.no_grad()
def test_without_memory_nothing_changes(random_flux: Flux) -> None:
    plan = planned(random_flux, "joint")
    x_BLC = noise(random_flux, plan)
    before = random_flux.velocity(x_BLC, T, plan, 2.0)
    use_memory(random_flux.transformer("kontext"))
    assert torch.equal(random_flux.velocity(x_BLC, T, plan, 2.0), before)


@torch.no_grad()
def test_keeping_changes_nothing(random_flux: Flux) -> None:
    plan = planned(random_flux, "joint")
    x_BLC, kept = noise(random_flux, plan), KeyValues()
    before = random_flux.velocity(x_BLC, T, plan, 2.0)
    keeping = replace(plan, conditioning=replace(plan.conditioning, kept=kept))
    assert torch.allclose(random_flux.velocity(x_BLC, T, keeping, 2.0), before, atol=1e-5)
    layers = kept.branch("cond")
    assert len(layers) == 3
    tokens = x_BLC.shape[1] + plan.conditioning.sequence_BSC.shape[1]
    assert all(key.shape == value.shape == (1, tokens, 2, 32) for key, value in layers.values())


@torch.no_grad()
@pytest.mark.parametrize("name", ["kontext", "icedit"])
def test_held_tokens_stand_for_computed_ones(random_flux: Flux, name: str) -> None:
    """Half of the tokens, at the same time, with the keys and values of the rest: the same velocities."""
    plan = planned(random_flux, "joint", rows=2, name=name)
    x_BLC, kept = noise(random_flux, plan, 2), KeyValues()
    keeping = replace(plan, conditioning=replace(plan.conditioning, kept=kept))
    whole = random_flux.velocity(x_BLC, T, keeping, 2.0)
    count = x_BLC.shape[1]
    active = torch.arange(0, count, 2)
    total = kept.branch("cond")[0][0].shape[1]
    others = torch.tensor([place for place in range(total) if place not in set(active.tolist())])
    slots = plan.conditioning
    part = replace(
        slots,
        channel_BLC=None if slots.channel_BLC is None else slots.channel_BLC[:, active],
        ids_L3=random_flux.grid_ids(plan.canvas.width, plan.canvas.height)[active],
        sequence_BSC=None,
        sequence_ids_S3=None,
        held=kept.at(others),
    )
    found = random_flux.velocity(x_BLC[:, active], T, replace(plan, conditioning=part), 2.0)
    assert torch.allclose(found, whole[:, active], atol=1e-5)


@torch.no_grad()
def test_a_row_of_kept_tokens_is_that_picture_alone(random_flux: Flux) -> None:
    both, kept = planned(random_flux, "joint", rows=2), KeyValues()
    x_BLC = noise(random_flux, both, 2)
    random_flux.velocity(x_BLC, T, replace(both, conditioning=replace(both.conditioning, kept=kept)), 2.0)
    one, alone = planned(random_flux, "joint"), KeyValues()
    random_flux.velocity(x_BLC[:1], T, replace(one, conditioning=replace(one.conditioning, kept=alone)), 2.0)
    pairs = zip(kept.row(0).branch("cond").values(), alone.branch("cond").values(), strict=True)
    for (key, value), (key_alone, value_alone) in pairs:
        assert torch.allclose(key, key_alone, atol=1e-5)
        assert torch.allclose(value, value_alone, atol=1e-5)


@torch.no_grad()
def test_branches_of_guidance_are_kept_apart(random_flux: Flux) -> None:
    plan, kept = planned(random_flux, "joint"), KeyValues()
    slots = replace(plan.conditioning, kept=kept)
    x_BLC = noise(random_flux, plan)
    for text in (slots.text, slots.negative):
        random_flux.velocity(x_BLC, T, replace(plan, conditioning=replace(slots, text=text)), 2.0)
    one, two = (kept.branch(name)[2][0] for name in ("cond", "uncond"))
    assert not torch.allclose(one, two, atol=1e-3)


@torch.no_grad()
def test_an_adapter_and_its_scale_are_another_context(adapted: Flux) -> None:
    plan = planned(adapted, "cached")
    x_BLC = noise(adapted, plan)
    transformer = adapted.transformer("kontext")
    (name,) = adapters.active(transformer)
    found = {}
    for scale in (1.0, 0.5, 1.0):
        adapters.enable(transformer, [name], [scale])
        velocity = adapted.velocity(x_BLC, T, plan, 2.0)
        adapted.contexts.clear()
        assert torch.equal(adapted.velocity(x_BLC, T, plan, 2.0), velocity), "found, not computed"
        assert scale not in found or torch.equal(found[scale], velocity)
        found[scale] = velocity
    assert not torch.allclose(found[1.0], found[0.5], atol=1e-3)


@pytest.mark.parametrize("name", ["kontext", "icedit"])
def test_gradients_reach_the_context(random_flux: Flux, name: str) -> None:
    """Activation checkpointing computes the same ones again."""
    plan = planned(random_flux, "cached", rows=2, name=name)
    transformer = random_flux.transformer(plan.role)
    x_BLC, times_B = noise(random_flux, plan, 2), torch.tensor([0.6, 0.3])
    weight = transformer.transformer_blocks[0].attn.to_k.weight.requires_grad_()
    gradients = []
    transformer.train()
    try:
        for checkpointed in (False, True):
            (transformer.enable_gradient_checkpointing if checkpointed else lambda: None)()
            weight.grad = None
            random_flux.velocity(x_BLC, times_B, plan, 1.0).square().mean().backward()
            gradients.append(weight.grad.clone())
    finally:
        transformer.disable_gradient_checkpointing()
        transformer.eval()
        weight.requires_grad_(False)
        weight.grad = None
    assert gradients[0].abs().sum() > 0
    assert torch.allclose(*gradients, atol=1e-6)


@torch.no_grad()
def test_a_cache_that_skips_blocks_is_refused(random_flux: Flux) -> None:
    plan = planned(random_flux, "cached", name="icedit")
    transformer = random_flux.transformer(plan.role)
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    try:
        random_flux.contexts.clear()
        with pytest.raises(EditkitError, match="do not go together with skipped blocks"):
            random_flux.velocity(noise(random_flux, plan), T, plan, 2.0)
    finally:
        transformer.disable_cache()
