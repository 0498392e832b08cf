"""A method's conditioner, sampler and trainer."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from backbones.flux import Flux
from editkit import flow
from editkit.imaging import canvas
from editkit.method import Conditioner, Sampler, Trainer
from editkit.types import EditInputs, Plan
from tests.contract.asked import WORDS, inputs
from tests.pictures import photo


@torch.no_grad()
@pytest.mark.parametrize(("width", "height"), [(128, 128), (96, 61), (300, 70)])
def test_plan(
    role: str, parts: tuple[Conditioner, Sampler, Trainer], random_flux: Flux, width: int, height: int
) -> None:
    conditioner, sampler, _ = parts
    plan = conditioner.plan(inputs(width, height))
    assert plan.role == role
    planned, slots = plan.canvas, plan.conditioning
    assert planned.original == (width, height)
    assert planned.width % 16 == planned.height % 16 == 0
    assert planned.answer.left + planned.answer.width <= planned.width
    assert planned.answer.top + planned.answer.height <= planned.height
    assert planned.content.left + planned.content.width <= planned.answer.width
    assert planned.content.top + planned.content.height <= planned.answer.height

    tokens = planned.width * planned.height // 256
    in_channels = random_flux.transformer(plan.role).config.in_channels
    assert slots.text is not None
    assert len(slots.text.tokens_BTD) == len(slots.text.pooled_BD) == 2
    if slots.channel_BLC is not None:
        assert slots.channel_BLC.shape == (2, tokens, in_channels - 64)
    else:
        assert in_channels == 64
    assert (slots.sequence_BSC is None) == (slots.sequence_ids_S3 is None)
    if slots.sequence_BSC is not None:
        batch, count, channels = slots.sequence_BSC.shape
        assert (batch, channels) == (2, 64)
        assert slots.sequence_ids_S3.shape == (count, 3)
        own = random_flux.grid_ids(planned.width, planned.height)
        taken = {tuple(row) for row in own.tolist()}
        places = [tuple(row) for row in slots.sequence_ids_S3.tolist()]
        assert not taken & set(places)
        assert len(set(places)) == len(places)

    noise_BLC = random_flux.noise(planned, [torch.Generator().manual_seed(seed) for seed in range(2)])
    assert noise_BLC.shape == (2, tokens, 64)
    for t in (0.4, torch.tensor([0.4, 0.4])):
        velocity_BLC = random_flux.velocity(noise_BLC, t, plan, 2.0)
        assert velocity_BLC.shape == noise_BLC.shape
        assert torch.isfinite(velocity_BLC).all()
    steps = list(sampler.euler_steps(plan, noise_BLC, flow.schedule(3, tokens), 2.0))
    assert len(steps) == 3
    assert all(step.shape == noise_BLC.shape for step in steps)


@torch.no_grad()
def test_source_and_instruction_matter(
    parts: tuple[Conditioner, Sampler, Trainer], random_flux: Flux
) -> None:
    conditioner, sampler, _ = parts

    def end(words: str, seed: int) -> Tensor:
        plan = conditioner.plan(EditInputs(prompts=(words,), source_BCHW=photo(128, 128, seed)))
        noise_BLC = random_flux.noise(plan.canvas, [torch.Generator().manual_seed(0)])
        *_, last = sampler.euler_steps(plan, noise_BLC, flow.schedule(2, noise_BLC.shape[1]), 2.0)
        return last

    assert not torch.allclose(end(WORDS[0], 0), end(WORDS[1], 0), atol=0.02)
    assert not torch.allclose(end(WORDS[0], 0), end(WORDS[0], 1), atol=0.02)


@torch.no_grad()
def test_a_batch_is_planned_as_its_members_are(parts: tuple[Conditioner, Sampler, Trainer]) -> None:
    conditioner, _, _ = parts
    together = conditioner.plan(inputs(100, 60))
    for place, words in enumerate(WORDS):
        single = conditioner.plan(EditInputs(prompts=(words,), source_BCHW=photo(100, 60, place)))
        assert single.canvas == together.canvas
        for mine, other in zip(_tensors(single), _tensors(together), strict=True):
            assert torch.allclose(mine[0], other[place], atol=1e-4)
        ids = [each.conditioning.sequence_ids_S3 for each in (single, together)]
        assert ids[0] is ids[1] is None or torch.equal(*ids)


def _tensors(plan: Plan) -> list[Tensor]:
    """What has a row for each member."""
    slots = plan.conditioning
    every = (slots.text.tokens_BTD, slots.text.pooled_BD, slots.channel_BLC, slots.sequence_BSC)
    return [tensor for tensor in every if tensor is not None]


@torch.no_grad()
def test_target_fills_the_canvas(parts: tuple[Conditioner, Sampler, Trainer], random_flux: Flux) -> None:
    conditioner, _, _ = parts
    given, answer_BCHW = inputs(96, 61), torch.cat([photo(96, 61, seed) for seed in (5, 6)])
    plan = conditioner.plan_without_text(given)
    assert plan.conditioning.text is None
    target_BCHW = conditioner.target(given, answer_BCHW)
    assert target_BCHW.shape == (2, 3, plan.canvas.height, plan.canvas.width)
    assert target_BCHW.min() >= 0
    assert target_BCHW.max() <= 1
    tokens = plan.canvas.width * plan.canvas.height // 256
    assert random_flux.encode(target_BCHW).shape == (2, tokens, 64)
    # The answer lies where the sampler will look for it.
    restored_BCHW = canvas.restore(target_BCHW, plan.canvas)
    assert restored_BCHW.shape == answer_BCHW.shape
    assert float((restored_BCHW - answer_BCHW).abs().mean()) < 0.06


@torch.no_grad()
def test_trainer(parts: tuple[Conditioner, Sampler, Trainer]) -> None:
    conditioner, _, trainer = parts
    given = inputs()
    plan = conditioner.plan_without_text(given)
    weights_BL = trainer.weights(plan, given)
    if weights_BL is not None:
        assert weights_BL.shape == (2, plan.canvas.width * plan.canvas.height // 256)
        assert weights_BL.min() >= 0
        assert (weights_BL.sum(1) > 0.99).all()
    worded = [[trainer.reword(WORDS[0], random.Random(seed)) for seed in range(50)] for _ in range(2)]
    assert worded[0] == worded[1]
    assert WORDS[0] in worded[0]
    assert len(conditioner.prompts(worded[0])) == 50
    assert all(isinstance(prompt, str) for prompt in conditioner.prompts(worded[0]))
