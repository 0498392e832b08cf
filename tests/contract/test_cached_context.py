"""Law: context with keys and values computed once gives what the same masked attention gives in full."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from backbones.flux import Flux, load_flux
from editkit import config, registry
from editkit.key_values import KeyValues
from editkit.method import Conditioner
from editkit.types import EditInputs, Plan
from methods.icedit import moe
from tests import ROOT, masked_flux
from tests.contract.asked import WORDS
from tests.pictures import photo

T, GUIDANCE = 0.7, 2.0
WAYS: dict[str, tuple[str, dict[str, Any], int]] = {
    "kontext": ("kontext", {}, 0),
    "kontext references": ("kontext", {"sizes": "exact"}, 2),
    "icedit": ("icedit", {"encoding": "mode"}, 0),
    "aceplus": ("aceplus", {"encoding": "mode"}, 1),
    "aceplus sequence": ("aceplus", {"encoding": "mode", "layout": "sequence"}, 2),
    "aceplus full sequence": ("aceplus", {"encoding": "mode", "layout": "sequence", "model": "full"}, 1),
}


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], int]:
    return WAYS[request.param]


def conditioner(flux: Flux, name: str, options: dict[str, Any]) -> Conditioner[Any]:
    method = registry.method(name)
    return method.conditioner(flux, config.build(method.config, {"context": "cached", **options}))


def planned(flux: Flux, way: tuple[str, dict[str, Any], int], rows: int = 2, words: int = 0) -> Plan:
    """A plan of pictures that are alike in all rows where there is one instruction for all."""
    name, options, references = way
    pictures = [torch.cat([photo(64, 64, seed + row) for row in range(rows)]) for seed in range(3)]
    inputs = EditInputs(
        prompts=tuple(WORDS[(words + row) % 2] for row in range(rows)),
        source_BCHW=pictures[0],
        references=tuple(pictures[1 : 1 + references]),
    )
    return conditioner(flux, name, options).plan(inputs)


def noise(flux: Flux, plan: Plan, rows: int = 2) -> torch.Tensor:
    return flux.noise(plan.canvas, [torch.Generator().manual_seed(row) for row in range(rows)])


def in_full(flux: Flux, plan: Plan, x_BLC: torch.Tensor) -> torch.Tensor:
    """The same velocity by one pass over all tokens, with a mask."""
    slots = plan.conditioning
    ids_L3 = slots.ids_L3
    if ids_L3 is None:
        ids_L3 = flux.grid_ids(plan.canvas.width, plan.canvas.height)
    expected = torch.empty_like(x_BLC)
    own = torch.ones(len(ids_L3), dtype=torch.bool)
    if slots.given_L is None:
        inputs, context, context_ids = x_BLC, slots.sequence_BSC, slots.sequence_ids_S3
    else:
        own = ~slots.given_L
        about = slots.channel_BLC[:, ~own]
        context, context_ids = torch.cat((about[..., :64], about), dim=-1), ids_L3[~own]
        inputs = torch.cat((x_BLC, slots.channel_BLC), dim=-1)[:, own]
        expected[:, ~own] = (x_BLC[:, ~own] - about[..., :64]) / T
    text = slots.text
    words_T3 = ids_L3.new_zeros(text.tokens_BTD.shape[1], 3) if text.ids_T3 is None else text.ids_T3
    expected[:, own] = masked_flux.velocity(
        flux.transformer(plan.role),
        inputs,
        context,
        torch.cat((words_T3, ids_L3[own], context_ids)),
        text.tokens_BTD,
        text.pooled_BD,
        T,
        GUIDANCE,
    )
    return expected


def test_cached_is_the_masked_attention_in_full(
    random_flux: Flux, way: tuple[str, dict[str, Any], int]
) -> None:
    plan = planned(random_flux, way)
    assert plan.conditioning.context_apart
    x_BLC = noise(random_flux, plan)
    found = random_flux.velocity(x_BLC, T, plan, GUIDANCE)
    assert torch.allclose(found, in_full(random_flux, plan, x_BLC), atol=1e-5, rtol=1e-5)


def test_one_context_serves_every_step_seed_and_instruction(
    random_flux: Flux, way: tuple[str, dict[str, Any], int]
) -> None:
    random_flux.contexts.clear()
    before = random_flux.contexts.computed
    for words in (0, 1):
        plan = planned(random_flux, way, rows=1, words=words)
        x_BLC = noise(random_flux, plan, rows=1)
        for t in (0.9, 0.3):
            random_flux.velocity(x_BLC, t, plan, GUIDANCE)
    assert random_flux.contexts.computed == before + 1


def test_another_picture_is_another_context(random_flux: Flux) -> None:
    way = WAYS["kontext"]
    one = planned(random_flux, way, rows=1)
    two = conditioner(random_flux, "kontext", {}).plan(
        EditInputs(prompts=WORDS[:1], source_BCHW=photo(64, 64, 9))
    )
    x_BLC = noise(random_flux, one, rows=1)
    first = random_flux.velocity(x_BLC, T, one, GUIDANCE)
    assert not torch.allclose(random_flux.velocity(x_BLC, T, two, GUIDANCE), first, atol=0.02)
    assert torch.equal(random_flux.velocity(x_BLC, T, one, GUIDANCE), first)


def test_seeds_of_one_picture_share_a_row(random_flux: Flux) -> None:
    random_flux.contexts.clear()
    name, options, _ = WAYS["kontext"]
    source_BCHW = photo(64, 64).expand(3, -1, -1, -1)
    plan = conditioner(random_flux, name, options).plan(
        EditInputs(prompts=WORDS[:1] * 3, source_BCHW=source_BCHW)
    )
    x_BLC = noise(random_flux, plan, rows=3)
    found = random_flux.velocity(x_BLC, T, plan, GUIDANCE)
    assert torch.allclose(found, in_full(random_flux, plan, x_BLC), atol=1e-5, rtol=1e-5)
    single = planned(random_flux, WAYS["kontext"], rows=1)
    before = random_flux.contexts.computed
    random_flux.velocity(x_BLC[:1], T, single, GUIDANCE)
    assert random_flux.contexts.computed == before, "the batch's context is that of one row"


def test_changed_weights_are_another_context(random_flux: Flux) -> None:
    plan = planned(random_flux, WAYS["kontext"], rows=1)
    x_BLC = noise(random_flux, plan, rows=1)
    first = random_flux.velocity(x_BLC, T, plan, GUIDANCE)
    weight = random_flux.transformer(plan.role).x_embedder.weight
    weight.mul_(2)
    try:
        changed = random_flux.velocity(x_BLC, T, plan, GUIDANCE)
        assert torch.allclose(changed, in_full(random_flux, plan, x_BLC), atol=1e-5, rtol=1e-5)
    finally:
        weight.div_(2)
    assert torch.equal(random_flux.velocity(x_BLC, T, plan, GUIDANCE), first)


def test_another_scale_of_experts_is_another_context() -> None:
    tiny = load_flux("tiny", "cpu")
    plan = planned(tiny, WAYS["icedit"], rows=1)
    transformer = tiny.transformer("fill")
    moe.load_moe(transformer, ROOT / "methods/icedit/tiny/moe", "moe")
    x_BLC = noise(tiny, plan, rows=1)
    first = tiny.velocity(x_BLC, T, plan, GUIDANCE)
    for layer in transformer.modules():
        if isinstance(layer, moe.MoELinear):
            layer.strength = 0.0
    found = tiny.velocity(x_BLC, T, plan, GUIDANCE)
    assert not torch.equal(found, first)
    tiny.contexts.clear()
    assert torch.equal(found, tiny.velocity(x_BLC, T, plan, GUIDANCE))


def test_a_context_leaves_with_its_transformer() -> None:
    tiny = load_flux("tiny", "cpu", loading={"low_memory": "16g"})
    plan = planned(tiny, WAYS["kontext"], rows=1)
    others = {id(each) for each in gc.get_objects() if isinstance(each, KeyValues)}
    tiny.velocity(noise(tiny, plan, rows=1), T, plan, GUIDANCE)
    (held,) = [
        weakref.ref(each)
        for each in gc.get_objects()
        if isinstance(each, KeyValues) and id(each) not in others
    ]
    tiny.transformer("fill")
    assert len(tiny.transformers) == 1
    gc.collect()
    assert held() is None


def test_without_context_nothing_is_apart(random_flux: Flux) -> None:
    joint = registry.method("kontext").conditioner(
        random_flux, config.build(registry.method("kontext").config, {})
    )
    cached = conditioner(random_flux, "kontext", {})
    inputs = EditInputs(prompts=WORDS[:1], size=(64, 64))
    plans = [each.plan(inputs) for each in (joint, cached)]
    x_BLC = noise(random_flux, plans[0], rows=1)
    one, two = (random_flux.velocity(x_BLC, T, plan, GUIDANCE) for plan in plans)
    assert torch.equal(one, two)


def test_a_picture_of_a_batch_finds_its_own_row(random_flux: Flux) -> None:
    random_flux.contexts.clear()
    random_flux.velocity(noise(random_flux, both := planned(random_flux, WAYS["kontext"])), T, both, GUIDANCE)
    before = random_flux.contexts.computed
    alone = conditioner(random_flux, "kontext", {}).plan(
        EditInputs(prompts=WORDS[:1], source_BCHW=photo(64, 64, 1))  # the batch's second picture
    )
    x_BLC = noise(random_flux, alone, rows=1)
    found = random_flux.velocity(x_BLC, T, alone, GUIDANCE)
    assert torch.allclose(found, in_full(random_flux, alone, x_BLC), atol=1e-5, rtol=1e-5)
    assert random_flux.contexts.computed == before, "the batch's context holds that of each picture"
