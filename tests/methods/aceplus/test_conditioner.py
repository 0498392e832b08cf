"""Joining of units: references beside the target or on the sequence, sizes and budgets."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import editkit
from backbones.flux import Flux
from editkit import EditkitError
from editkit.imaging import canvas
from editkit.types import EditInputs
from tests.methods.aceplus.plans import conditioner, inputs
from tests.pictures import difference, image, photo


def test_a_picture_without_a_mask_is_seen(random_flux: Flux) -> None:
    """A reference is to go somewhere into it: two pictures give two results."""
    editor = editkit.Editor(random_flux)
    one, other = (
        editor.edit(image(64, 64, seed), "put it there", "aceplus", references=[image(64, 64, 9)], steps=2)
        for seed in (0, 1)
    )
    assert difference(one.image, other.image) > 5


@pytest.mark.parametrize("count", [0, 1, 2])
def test_canvases_keep_to_the_budget(count: int) -> None:
    flux: Any = type("Flux", (), {"sizes": lambda self, role: ()})()
    rng = np.random.default_rng(0)
    for _ in range(20):
        width, height, wide, tall = map(int, rng.integers(200, 1600, 4))
        pictures = (torch.zeros(1, 3, tall, wide),) * count
        empty = torch.zeros(1, 3, height, width)
        panel, beside = conditioner(flux)._panel(inputs(source_BCHW=empty, references=pictures))
        across = panel.width + sum(each.shape[-1] for each in beside)
        assert across * panel.height / 256 <= 4096


@torch.no_grad()
def test_references_stand_left_of_the_target(random_flux: Flux) -> None:
    given = inputs(mask=True, references=(photo(64, 128, 1), photo(200, 100, 2)))
    plan = conditioner(random_flux, encoding="mode").plan_without_text(given)
    assert plan.widths == (64, 256, 128)
    assert (plan.canvas.width, plan.canvas.height, plan.canvas.answer.left) == (448, 128, 320)
    mask_BhwC = plan.conditioning.channel_BLC[..., 64:].unflatten(1, (8, 28))
    assert mask_BhwC[:, :, :20].abs().sum() == 0
    assert mask_BhwC[:, :4, 20:22].min() == 1
    assert plan.conditioning.ids_L3 is None
    target = conditioner(random_flux).target(given, photo(128, 128, 5))
    assert torch.equal(target[..., :64], photo(64, 128, 1))
    assert torch.equal(target[..., 320:], photo(128, 128, 5))


@torch.no_grad()
def test_units_on_the_sequence_are_blocks_of_their_own(random_flux: Flux) -> None:
    given = inputs(references=(photo(64, 128, 1), photo(128, 128, 2)))
    joined = conditioner(random_flux, layout="sequence", encoding="mode")
    plan = joined.plan_without_text(given)
    ids_Lhw = plan.conditioning.ids_L3.unflatten(0, (8, 20))
    assert ids_Lhw[:, :4, 0].unique().tolist() == [1]
    assert ids_Lhw[:, 4:12, 0].unique().tolist() == [2]
    assert ids_Lhw[:, 12:, 0].unique().tolist() == [0]
    assert ids_Lhw[:, 4, 2].tolist() == ids_Lhw[:, 12, 2].tolist() == [0] * 8
    tokens = [tuple(row) for row in plan.conditioning.ids_L3.tolist()]
    assert len(set(tokens)) == 160
    # A unit's picture is encoded without its neighbours'.
    alone = random_flux.encode(photo(128, 128, 2))
    found = plan.conditioning.channel_BLC[..., :64].unflatten(1, (8, 20))[:, :, 4:12].flatten(1, 2)
    assert torch.allclose(found, alone, atol=1e-5)
    answer = photo(128, 128, 3)
    target = joined.target_tokens(given, answer).unflatten(1, (8, 20))
    assert torch.allclose(target[:, :, 12:].flatten(1, 2), random_flux.encode(answer), atol=1e-5)
    # And decoded without them.
    assert plan.canvas.apart

    kept, panel = canvas.decoded_tokens(target.flatten(1, 2), plan.canvas)
    assert (panel.width, panel.height) == (128, 128)
    assert torch.equal(kept, target[:, :, 12:].flatten(1, 2))


@torch.no_grad()
def test_each_unit_its_own_instruction(random_flux: Flux) -> None:
    given = inputs(references=(photo(64, 128, 1),))
    made = conditioner(random_flux, layout="sequence", unit_prompts=True)
    plan = made.plan(dataclasses.replace(given, prompts=("a red circle\nmake it red",)))
    text = plan.conditioning.text
    assert text.tokens_BTD.shape[1] == 96
    assert torch.equal(text.tokens_BTD[:, 48:], random_flux.text(["a red circle"]).tokens_BTD)
    assert text.ids_T3.unique(dim=0).tolist() == [[0, 0, 0], [1, 0, 0]]
    noise = random_flux.noise(plan.canvas, [torch.Generator().manual_seed(0)])
    other = made.plan(dataclasses.replace(given, prompts=("a blue star\nmake it red",)))
    assert not torch.allclose(
        *(random_flux.velocity(noise, 0.5, each, 1.0) for each in (plan, other)), atol=1e-3
    )
    # Left out in training, or nothing as a negative prompt: nothing for each.
    nothing = made.with_text(plan, [""], [" "]).conditioning
    assert torch.equal(nothing.text.tokens_BTD[:, 48:], random_flux.text([""]).tokens_BTD)
    assert torch.equal(nothing.text.tokens_BTD, nothing.negative.tokens_BTD)
    with pytest.raises(EditkitError, match="instruction has 1 of 2 lines"):
        made.plan(given)
    with pytest.raises(EditkitError, match="layout=sequence"):
        conditioner(random_flux, unit_prompts=True)


def test_edits_of_a_batch_have_instructions_of_their_own_for_each_unit(random_flux: Flux) -> None:
    options = {"layout": "sequence", "unit_prompts": True, "adapter": None}
    editor = editkit.Editor(random_flux, options={"aceplus": options})
    results = editor.edit_many(
        [
            editkit.EditRequest(
                image=image(64, 64),
                instruction=words,
                method="aceplus",
                references=[image(64, 64, 9)],
                steps=2,
            )
            for words in ("a red circle\nput it there", "a blue star\nput it there", "put it there")
        ]
    )
    assert difference(results[0].image, results[1].image) > 0
    assert "instruction has 1 of 2 lines" in results[2].error


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"reference": "height"}, (128, 128)),
        ({"reference": "keep"}, (64, 64)),
        ({"reference": "keep", "reference_rate": 0.25}, (32, 32)),
    ],
)
@torch.no_grad()
def test_size_of_a_reference(random_flux: Flux, options: dict[str, Any], shown: tuple[int, int]) -> None:
    white = torch.ones(1, 3, 64, 64)
    target = conditioner(random_flux, **options).target(inputs(references=(white,)), photo(128, 128))
    reference = target[0, 0, :, :-128]
    rows, columns = (reference > 0.75).nonzero().unbind(1)
    assert (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1) == shown
    top = int(rows.min())
    assert abs(top - (128 - shown[0]) // 2) <= 1


@torch.no_grad()
def test_random_size_of_a_reference_is_the_pictures_own(random_flux: Flux) -> None:
    pictures = torch.cat([torch.ones(1, 3, 64, 64), torch.ones(1, 3, 64, 64) * 0.9])
    made = conditioner(random_flux, reference="random")
    given = EditInputs(
        prompts=("a", "b"), source_BCHW=photo(128, 128).repeat(2, 1, 1, 1), references=(pictures,)
    )
    both = made.target(given, photo(128, 128).repeat(2, 1, 1, 1))
    alone = made.target(inputs(references=(pictures[1:],)), photo(128, 128))
    assert torch.equal(both[1:], alone)
    heights = [int((each[0] > 0.75)[:, 64].sum()) for each in both[..., :128]]
    assert heights[0] != heights[1]
    assert all(128 / 3 - 1 <= height <= 128 for height in heights)


def test_references_share_the_budget_of_tokens() -> None:
    flux: Any = type("Flux", (), {"sizes": lambda self, role: ()})()
    panel, (reference,) = conditioner(flux)._panel(
        inputs(1600, 1200, references=(torch.zeros(1, 3, 600, 800),))
    )
    tokens = (panel.width + reference.shape[-1]) * panel.height / 256
    assert 0.9 * 4096 <= tokens <= 4096
    assert panel.original == (1600, 1200)
    small, _ = conditioner(flux)._panel(inputs(100, 60))
    assert (small.width, small.height) == (112, 64)


@torch.no_grad()
def test_released_crop_loses_thirty_pixels(random_flux: Flux) -> None:

    given = inputs(references=(photo(128, 128, 1),))
    exact, released = (
        conditioner(random_flux, crop=crop).plan_without_text(given).canvas for crop in ("exact", "released")
    )
    decoded = torch.linspace(0, 1, 256).expand(1, 3, 128, 256)
    assert torch.equal(canvas.restore(decoded, exact), decoded[..., 128:])
    stretched = canvas.resize(decoded[..., 158:], 128, 128)
    assert torch.equal(canvas.restore(decoded, released), stretched)
    # Without a reference the released script cuts nothing off either.
    alone = conditioner(random_flux, crop="released").plan_without_text(inputs()).canvas
    assert alone == conditioner(random_flux).plan_without_text(inputs()).canvas


@pytest.mark.parametrize("options", [{}, {"layout": "sequence"}, {"crop": "released"}, {"model": "full"}])
def test_pixels_outside_the_mask_stay_with_references(random_flux: Flux, options: dict[str, Any]) -> None:
    editor, picture = editkit.Editor(random_flux, {"aceplus": options}), image(97, 61)
    mask, black = Image.new("L", (97, 61)), Image.new("RGB", (97, 61))
    mask.paste(255, (20, 10, 70, 50))
    references = [image(40, 50, 3), image(30, 20, 4)]
    made = editor.edit(picture, "red", "aceplus", steps=1, mask=mask, references=references).image
    outside = [Image.composite(black, each, mask) for each in (made, picture)]
    assert made.size == picture.size
    assert difference(*outside) == 0
    assert difference(made, picture) > 10
