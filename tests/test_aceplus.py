"""ACE++: condition units, how they join, tasks, adapters, the full model, and padded batches."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, difference, image, photo, transformer_config
from diffusers import FluxFillPipeline, FluxTransformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import editkit
from backbones import meta_init, random_init
from backbones.conversion import state_dict
from backbones.flux import Flux, load
from backbones.loading import LoadOptions, load_transformer
from backbones.specs import FAMILIES
from editkit import EditkitError, adapters, config, flow, shapesworld
from editkit.data import buckets, padding
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from editkit.imaging import canvas
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from editkit.types import Conditioning, EditInputs, EditRequest, Text
from methods.aceplus import METHOD, controls, lcu, tasks
from methods.aceplus.conditioner import ACEPlan
from methods.aceplus.config import PLACEHOLDERS, RELEASED

WEIGHTS = "diffusion_pytorch_model.safetensors"
FULL_SIZE = meta_init.OFFICIAL | {"in_channels": 448, "out_channels": 64, "guidance_embeds": True}


def conditioner(flux: Flux, **options: Any) -> Any:
    return METHOD.conditioner(flux, config.build(METHOD.config, options))


def inputs(
    width: int = 128, height: int = 128, *, mask: bool = False, references: tuple[Any, ...] = (), **more: Any
) -> EditInputs:
    mask_B1HW = None
    if mask:
        mask_B1HW = torch.zeros(1, 1, height, width)
        mask_B1HW[..., : height // 2, : width // 4] = 1
    given = {"source_BCHW": photo(width, height), "mask_B1HW": mask_B1HW} | more
    return EditInputs(prompts=("make it red",), references=references, **given)


# The unit.


@pytest.mark.parametrize("scale", [0.0, 0.5, None])
def test_the_scale_asked_for_counts(scale: float | None) -> None:
    """0 is a scale like any other, and null is the task's own."""
    flux: Any = type("Flux", (), {"sizes": lambda self, role: ()})()
    given = inputs(mask=True, task="repainting")
    made = conditioner(flux, scale=scale)
    panel, _ = made._panel(given)
    shown = made._target_unit(
        given, tasks.chosen("repainting", image=True, mask=True, references=False), panel
    )
    under = given.mask_B1HW.expand_as(shown.image_BCHW) > 0
    wanted = (given.source_BCHW - 0.5) * (1 - (1.0 if scale is None else scale)) + 0.5
    assert torch.allclose(shown.image_BCHW[under], wanted[under], atol=1e-6)


def test_a_picture_without_a_mask_is_seen(random_flux: Flux) -> None:
    """A reference is to go somewhere into it: two pictures give two results."""
    editor = editkit.Editor(random_flux)
    one, other = (
        editor.edit(image(64, 64, seed), "put it there", "aceplus", references=[image(64, 64, 9)], steps=2)
        for seed in (0, 1)
    )
    assert difference(one.image, other.image) > 5


def test_references_have_their_placeholders() -> None:
    heard: list[Any] = []

    class Listening:
        """Takes every word as a token."""

        def takes(self, placeholders: Any) -> bool:
            return True

        def text(self, prompts: Any, placeholders: Any = ()) -> Text:
            heard.append((tuple(prompts), tuple(placeholders)))
            return Text(tokens_BTD=torch.zeros(len(prompts), 4, 8), pooled_BD=torch.zeros(len(prompts), 8))

    listening: Any = Listening()
    options = {"layout": "sequence", "unit_prompts": True}
    plan: Any = type("Plan", (), {})
    task = tasks.chosen("portrait", image=False, mask=False, references=True)
    plan = ACEPlan(
        canvas=canvas.fit((64, 64)), conditioning=Conditioning(), role="fill", task=task, widths=(64, 64)
    )
    conditioner(listening, **options).worded(
        plan, ["{image1} is a dog\nA girl", "a cat\nMaintain the facial features. A girl"]
    )
    assert heard == [
        (("Maintain the facial features. A girl",) * 2, PLACEHOLDERS),
        (("{image1} is a dog", "a cat"), PLACEHOLDERS),
    ]


def test_encoders_that_were_let_go_stay_away(tmp_path: Path) -> None:
    flux = editkit.load("tiny", "cpu").backbone
    made = conditioner(flux)
    plan = made.arrange(inputs())
    flux.keep_texts(tmp_path)
    made.worded(plan, ["make it red"])
    flux.settle("fill")
    flux.free()
    made.worded(plan, ["make it red"])
    assert flux._encoders is None


@pytest.mark.parametrize("count", [0, 1, 2])
def test_canvases_keep_to_the_budget(count: int) -> None:
    flux: Any = type("Flux", (), {"sizes": lambda self, role: ()})()
    rng = np.random.default_rng(0)
    for _ in range(100):
        width, height, wide, tall = map(int, rng.integers(200, 1600, 4))
        pictures = (torch.zeros(1, 3, tall, wide),) * count
        empty = torch.zeros(1, 3, height, width)
        panel, beside = conditioner(flux)._panel(inputs(source_BCHW=empty, references=pictures))
        across = panel.width + sum(each.shape[-1] for each in beside)
        assert across * panel.height / 256 <= 4096


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_scale_takes_content_away_under_the_mask_alone(scale: float) -> None:
    pixels, mask = photo(32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    unit = lcu.masked(pixels, mask, scale, None)
    assert torch.equal(unit.image_BCHW[..., 16:], pixels[..., 16:])
    wanted = (pixels * 2 - 1) * (1 - scale)  # in the network's range
    assert torch.allclose(unit.image_BCHW[..., :16] * 2 - 1, wanted[..., :16], atol=1e-6)
    assert unit.change_BCHW is None


def test_where_the_full_model_finds_the_content() -> None:
    pixels, mask = photo(32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    inside, outside = pixels[..., :16], pixels[..., 16:]
    split, whole, none = (lcu.masked(pixels, mask, 0.0, change) for change in ("split", "whole", "none"))
    assert (split.image_BCHW[..., :16] == 0.5).all()
    assert torch.equal(split.image_BCHW[..., 16:], outside)
    assert torch.equal(split.change_BCHW[..., :16], inside)
    assert (split.change_BCHW[..., 16:] == 0.5).all()
    assert torch.equal(whole.image_BCHW, pixels)
    assert torch.equal(whole.change_BCHW, pixels)
    assert torch.equal(none.image_BCHW, split.image_BCHW)
    assert (none.change_BCHW == 0.5).all()
    # Repainting hides it in both.
    repainted = lcu.masked(pixels, mask, 1.0, "split")
    assert (repainted.change_BCHW == 0.5).all()


def test_channels_stand_in_the_released_order(random_flux: Flux) -> None:
    pixels, mask = photo(32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 3, 5] = 1
    unit = lcu.masked(pixels, mask, 1.0, "split")
    channel_BLC = unit.channels(random_flux)
    assert channel_BLC.shape == (1, 4, 384)
    assert torch.equal(channel_BLC[..., :64], random_flux.encode(unit.image_BCHW))
    assert torch.equal(channel_BLC[..., 64:128], random_flux.encode(unit.change_BCHW))
    # Row 3, column 5 of a latent cell's 8x8 is its channel 29, of four cells a token.
    assert channel_BLC[0, 0, 128:].nonzero().tolist() == [[29 * 4]]


@torch.no_grad()
def test_at_full_scale_it_is_fills_own_input(random_flux: Flux) -> None:
    given = inputs(96, 64, mask=True, task="repainting")
    plan = conditioner(random_flux).arrange(given)
    panel = plan.canvas
    assert (panel.width, panel.height) == (128, 128)
    from editkit.imaging import canvas

    pixels, mask = (canvas.place(each, panel) for each in (given.source_BCHW, given.mask_B1HW))
    fill = random_flux.inpainting(pixels, mask)
    assert torch.allclose(plan.conditioning.channel_BLC, fill, atol=1e-5)


# Joining units.


@torch.no_grad()
def test_references_stand_left_of_the_target(random_flux: Flux) -> None:
    given = inputs(mask=True, references=(photo(64, 128, 1), photo(200, 100, 2)))
    plan = conditioner(random_flux, encoding="mode").arrange(given)
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
    plan = joined.arrange(given)
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
    from editkit.imaging import canvas

    kept, panel = canvas.decoded(target.flatten(1, 2), plan.canvas)
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
    nothing = made.worded(plan, [""], [" "]).conditioning
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
    from editkit.imaging import canvas

    given = inputs(references=(photo(128, 128, 1),))
    exact, released = (
        conditioner(random_flux, crop=crop).arrange(given).canvas for crop in ("exact", "released")
    )
    decoded = torch.linspace(0, 1, 256).expand(1, 3, 128, 256)
    assert torch.equal(canvas.restore(decoded, exact), decoded[..., 128:])
    stretched = canvas.resize(decoded[..., 158:], 128, 128)
    assert torch.equal(canvas.restore(decoded, released), stretched)
    # Without a reference the released script cuts nothing off either.
    alone = conditioner(random_flux, crop="released").arrange(inputs()).canvas
    assert alone == conditioner(random_flux).arrange(inputs()).canvas


# Parity with the released path through diffusers.


@torch.no_grad()
def test_latents_are_those_of_the_released_path(random_flux: Flux) -> None:
    """A masked picture and its sample from FluxFillPipeline's own parts, and Euler by its scheduler."""
    from test_parity import pipeline

    built = pipeline(FluxFillPipeline, random_flux, "fill")
    pixels, mask = photo(128, 128), torch.zeros(1, 1, 128, 128)
    mask[..., 40:90, 30:100] = 1
    generator = torch.Generator().manual_seed(3)
    masked = (pixels * 2 - 1) * (1 - 0.5 * mask)
    packed, conditions = built.prepare_mask_latents(
        mask, masked, 1, 16, 1, 128, 128, torch.float32, torch.device("cpu"), generator
    )
    theirs_BLC = torch.cat((conditions, packed), dim=-1)
    mine = torch.Generator().manual_seed(3)
    given = EditInputs(prompts=("make it red",), source_BCHW=pixels, mask_B1HW=mask, generators=(mine,))
    plan = conditioner(random_flux).plan(given)
    assert torch.allclose(plan.conditioning.channel_BLC, theirs_BLC, atol=1e-4)
    noise_BLC = random_flux.noise(plan.canvas, [mine])
    embeds, pooled, text_ids = built.encode_prompt(
        prompt="make it red", prompt_2=None, max_sequence_length=48, device=torch.device("cpu")
    )
    times = flow.schedule(4, 64)
    x_BLC = noise_BLC
    for now, then in itertools.pairwise(times):
        velocity = built.transformer(
            hidden_states=torch.cat((x_BLC, theirs_BLC), dim=-1),
            timestep=now.expand(1),
            guidance=torch.full((1,), 50.0),
            encoder_hidden_states=embeds,
            pooled_projections=pooled,
            txt_ids=text_ids,
            img_ids=random_flux.grid_ids(128, 128),
            return_dict=False,
        )[0]
        x_BLC = x_BLC + (then - now) * velocity
    sampler = METHOD.sampler(random_flux, config.build(METHOD.config, {}))
    *_, last = sampler.walk(plan, noise_BLC, times, 50.0)
    assert torch.allclose(last, x_BLC, atol=1e-4)


# Tasks.


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("", "generation"),
        ("image", "instruction"),
        ("image mask", "local_editing"),
        ("references", "subject"),
        ("image mask references", "local_reference"),
        ("image references", "local_reference"),
    ],
)
def test_the_task_follows_from_what_is_given(given: str, name: str) -> None:
    there = {what: what in given for what in ("image", "mask", "references")}
    assert tasks.chosen(None, **there).name == name


def test_a_task_says_what_it_needs() -> None:
    with pytest.raises(EditkitError, match="needs references for the task portrait"):
        tasks.chosen("portrait", image=True, mask=False, references=False)
    with pytest.raises(EditkitError, match="needs image and mask for the task repainting"):
        tasks.chosen("repainting", image=False, mask=False, references=False)


def test_tasks_of_requests(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    picture, mask = image(64, 64), Image.new("L", (64, 64), 255)
    found = [
        editor.edit(picture, "a red circle", "aceplus", task=task, mask=mask, steps=2)
        for task in ("repainting", "local_editing", "recolouring", "mosaic", None)
    ]
    assert [result.recipe["task"] for result in found][-2:] == ["mosaic", None]
    assert difference(found[1].image, found[4].image) == 0
    for other in (found[0], found[2], found[3]):
        assert difference(found[1].image, other.image) > 5
    with pytest.raises(EditkitError, match=r"no task of aceplus called 'recoluring'.*did you mean"):
        editor.edit(picture, "a red circle", "aceplus", task="recoluring")
    with pytest.raises(EditkitError, match="kontext has no tasks"):
        editor.edit(picture, "a red circle", "kontext", task="subject")


def test_official_prompts(random_flux: Flux) -> None:
    asked: list[str] = []
    extra: list[tuple[str, ...]] = []

    class Listening:
        def takes(self, words: Any) -> bool:
            return True

        def text(self, prompts: list[str], placeholders: Any) -> Any:
            asked.extend(prompts)
            extra.append(tuple(placeholders))
            return random_flux.text(["red"])

        def __getattr__(self, name: str) -> Any:
            return getattr(random_flux, name)

    flux: Any = Listening()
    reference = (photo(64, 64, 1),)
    for more in ({}, {"task": "portrait", "references": reference}, {"references": reference}):
        conditioner(flux).plan(inputs(**more))
    conditioner(flux, placeholders=["{image}"]).plan(inputs())
    portrait = "Maintain the facial features. make it red"
    assert asked == ["{image} make it red", portrait, "make it red", "{image} make it red"]
    assert extra == [PLACEHOLDERS] * 3 + [("{image}",)]


def test_placeholders_are_tokens_where_there_is_room() -> None:
    from conftest import CLIP, T5

    from backbones import text

    words = ["make", "it", "red", *(f"spare{n}" for n in range(20))]
    encoders = text.fresh(words, letters="A", clip=CLIP, t5=T5, length=16)
    assert not encoders.takes(PLACEHOLDERS)
    plain = encoders(["{image} make it red"]).tokens_BTD
    first = len(encoders.t5_tokenizer)
    encoders.t5.resize_token_embeddings(first + len(PLACEHOLDERS))
    assert encoders.takes(PLACEHOLDERS)
    ids = [
        encoders._with(words)("{image} make it red").input_ids[0]
        for words in (PLACEHOLDERS, ("{image}",), PLACEHOLDERS)
    ]
    assert ids == [first + 1, first, first + 1]
    # Nobody else's prompts are read differently for it.
    assert "{image}" not in encoders.t5_tokenizer.get_added_vocab()
    assert torch.equal(encoders(["{image} make it red"]).tokens_BTD, plain)
    assert not torch.equal(encoders(["{image} make it red"], PLACEHOLDERS).tokens_BTD, plain)


def test_annotators() -> None:
    pixels = torch.from_numpy(shapesworld.render(shapesworld.example(3).answer)).permute(2, 0, 1)[None] / 255
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., :64] = 1
    for name in ("gray", "mosaic", "canny", "contour"):
        made = controls.annotated(pixels, mask, name)
        assert torch.equal(made[..., 64:], pixels[..., 64:])
        assert not torch.equal(made, pixels)
        assert made.min() >= 0
        assert made.max() <= 1
    gray = controls.gray(pixels)
    assert torch.equal(gray[:, 0], gray[:, 2])
    blocks = controls.mosaic(torch.rand(1, 3, 1024, 768))
    assert torch.equal(blocks[..., :64, :64], blocks[..., :1, :1].expand(1, 3, 64, 64))
    edges = controls.canny(pixels)
    assert set(edges.unique().tolist()) <= {0.0, 1.0}
    assert 0 < edges.mean() < 0.2
    assert controls.contour(torch.full((1, 3, 32, 32), 0.2)).min() > 0.99


@pytest.mark.parametrize("control", ["canny", "contour", "mosaic", "gray"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (300, 3), (4, 40)])
def test_controls_take_any_size(control: str, width: int, height: int) -> None:
    made = controls.CONTROLS[control](photo(width, height))
    assert made.shape == (1, 3, height, width)
    assert made.isfinite().all()


def test_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with random weights: near is 1 somewhere, far is 0."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessorPil

    torch.manual_seed(0)
    small = DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        initializer_range=0.2,
    )
    network = DPTForDepthEstimation(small)
    network.head.head[-2].bias.data += 100  # above what its last ReLU cuts off
    network.save_pretrained(tmp_path)
    DPTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    monkeypatch.setattr(controls, "DEPTH", str(tmp_path))
    controls._depth.cache_clear()
    pixels = photo(60, 44)
    found = controls.depth(pixels)
    controls._depth.cache_clear()
    assert found.shape == pixels.shape
    assert torch.equal(found[:, 0], found[:, 1])
    assert found.amin() == 0
    assert found.amax() == 1


def test_depth_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    controls._depth.cache_clear()
    with pytest.raises(EditkitError, match=r"hf download Intel/dpt-hybrid-midas"):
        controls.depth(photo(64, 64))


# Adapters and the full model.


def test_which_adapter_a_request_wears() -> None:
    def chosen(backbone: str, request: EditRequest, **options: Any) -> str | None:
        return METHOD.adapter(config.build(METHOD.config, options), backbone, request)

    alone = EditRequest(image="a.png", instruction="x")
    subject = EditRequest(image=None, instruction="x", references=["a.png"])
    portrait = dataclasses.replace(subject, task="portrait")
    assert chosen("flux1-dev", alone) == RELEASED["local"]
    assert chosen("flux1-dev", subject) == RELEASED["subject"]
    assert chosen("flux1-dev", portrait) == RELEASED["portrait"]
    assert chosen("flux1-dev", alone, adapter="portrait") == RELEASED["portrait"]
    assert chosen("flux1-dev", alone, adapter=None) is None
    assert chosen("flux1-dev", alone, model="full") is None
    assert chosen("tiny", subject, model="full") == chosen("tiny", alone, model="full")
    assert str(chosen("tiny", alone, model="full")).endswith("tiny/full")
    assert chosen("some/folder", alone) is None
    assert chosen("some/folder", alone, adapter="mine.safetensors") == "mine.safetensors"
    assert chosen("flux1-dev", alone, model="full", adapter="portrait") == RELEASED["portrait"]


def test_a_role_may_be_another_behind_a_wider_input() -> None:
    """tiny's full model is its Fill, widened, and an adapter; on any backbone `{ace: fill}` asks for that."""
    own = load("tiny", device="cpu")
    asked = load("tiny", device="cpu", transformer={"ace": "fill"})
    for backbone in (own, asked):
        fill, ace = backbone.transformer("fill"), backbone.transformer("ace")
        assert ace is not fill
        columns = [*range(128), *range(192, 448)]
        assert torch.equal(ace.x_embedder.weight[:, columns], fill.x_embedder.weight)
        assert (ace.x_embedder.weight[:, 128:192] == 0).all()
        assert backbone.fingerprints("ace")["transformer"] == backbone.fingerprints("fill")["transformer"]
        shared = dict(fill.named_parameters())["transformer_blocks.0.attn.to_q.weight"]
        assert ace.transformer_blocks[0].attn.to_q.weight.data_ptr() == shared.data_ptr()
    with pytest.raises(EditkitError, match="no weights of its own for the role 'ace'"):
        load("tiny", device="cpu", transformer={"fill": "ace"}).transformer("fill")
    with pytest.raises(EditkitError, match="transformer names roles, text, kontext, fill, ace, and 'asce'"):
        load("tiny", device="cpu", transformer={"asce": "fill"})
    with pytest.raises(EditkitError, match="fill cannot be loaded"):
        load("tiny", device="cpu", transformer="fill").transformer("fill")


def test_widened_weights_leave_adapters_behind(random_flux: Flux) -> None:
    from backbones.widening import widened

    fill = FluxTransformer2DModel.from_config(random_flux.transformer("fill").config)
    before = {name: tensor.clone() for name, tensor in fill.state_dict().items()}
    adapters.attach(fill, adapters.LoraOptions(rank=3, targets=("x_embedder", "attn.to_q")))
    after = widened(fill, 448).state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before if name != "x_embedder.weight")


def test_an_adapter_of_fill_begins_on_a_wider_input_as_what_it_was(random_flux: Flux, tmp_path: Path) -> None:
    from backbones.widening import widened

    fill = FluxTransformer2DModel.from_config(random_flux.transformer("fill").config)
    wide = widened(fill, 448)
    adapters.attach(fill, adapters.LoraOptions(rank=3, targets=("x_embedder", "attn.to_q")))
    for name, parameter in fill.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapters.save(fill, tmp_path)
    with pytest.raises(EditkitError, match=r"load it on FLUX\.1 Fill"):
        adapters.load(wide, tmp_path, "default")
    adapters.resume(wide, tmp_path)
    tokens = torch.randn(2, 448)
    narrow = tokens[:, [*range(128), *range(192, 448)]]
    assert torch.allclose(wide.x_embedder(tokens), fill.x_embedder(narrow), atol=1e-5)
    assert wide.x_embedder.lora_A["default"].weight.requires_grad


def kohya(transformer: Any, rank: int, seed: int = 0) -> dict[str, Tensor]:
    """A LoRA in the released layout for a small transformer, half of it with alpha other than the rank."""
    from backbones.lora import dialects

    generator = torch.Generator().manual_seed(seed)
    linears = {
        name: module
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and "blocks" in name
    }
    updates = {
        name: dialects.Update(
            down_rI=torch.randn(rank, module.in_features, generator=generator) * 0.1,
            up_Or=torch.randn(module.out_features, rank, generator=generator) * 0.1,
            alpha=float(rank) * (1 + number % 2) / 2,
        )
        for number, (name, module) in enumerate(linears.items())
    }
    return dialects.from_diffusers(updates, "kohya")[0]


def test_released_layout_loads_and_counts(tmp_path: Path) -> None:
    transformer = FluxTransformer2DModel.from_config(transformer_config(384))
    state = kohya(transformer, 4)
    # As released: whole blocks, q, k and v fused, modulation too, and nothing outside the blocks.
    stems = {key.split(".", 1)[0] for key in state}
    assert {"lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_single_blocks_1_modulation_lin"} <= stems
    path = tmp_path / "comfyui_subject_lora16.safetensors"
    save_file(state, path)
    before = transformer.state_dict()["transformer_blocks.0.attn.to_k.weight"].clone()
    adapters.load(transformer, path, "subject")
    layer = transformer.transformer_blocks[0].attn.to_k
    down, up = layer.lora_A["subject"].weight, layer.lora_B["subject"].weight
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    fused = state[f"{stem}.lora_up.weight"] @ state[f"{stem}.lora_down.weight"]
    scale = layer.scaling["subject"]
    wanted = fused[64:128] * state[f"{stem}.alpha"] / len(state[f"{stem}.lora_down.weight"])
    assert torch.allclose(up @ down * scale, wanted, atol=1e-5)
    adapters.eject(transformer, "subject")
    assert torch.equal(transformer.state_dict()["transformer_blocks.0.attn.to_k.weight"], before)


def test_every_tensor_of_a_released_file_is_placed_at_full_size() -> None:
    from test_lora import ace

    from backbones.lora import dialects

    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(FULL_SIZE | {"in_channels": 384})
    for rank in (16, 64):
        state, about = dialects.in_diffusers(ace(rank), {})
        assert len(ace(rank)) == 912
        assert len(state) == 988
        transformer.load_lora_adapter(
            state,
            prefix="transformer",
            adapter_name=f"rank{rank}",
            metadata=json.loads(about.get("lora_adapter_metadata", "null")),
            low_cpu_mem_usage=True,  # so that what lies on the meta device is taken as it is
        )
        held = [m for m in adapters.layers(transformer) if f"rank{rank}" in m.r]
        assert len(held) == 494
        assert {m.r[f"rank{rank}"] for m in held} == {rank}
        assert {m.scaling[f"rank{rank}"] for m in held} == {1.0}


def test_full_model_has_the_released_tensors() -> None:
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(FULL_SIZE)
    native = state_dict.diffusers_to_native(transformer.state_dict())
    assert len(native) == 780
    assert tuple(native["img_in.weight"].shape) == (3072, 448)
    back = state_dict.native_to_diffusers(native)
    assert {k: t.shape for k, t in back.items()} == {k: t.shape for k, t in transformer.state_dict().items()}
    role = FAMILIES["flux1-dev"].roles["ace"]
    assert (role.file, role.in_channels) == ("ali-vilab/ACE_Plus/ace_plus_fft.safetensors", 448)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_full_model_from_a_file(dtype: torch.dtype, tmp_path: Path) -> None:
    made = FluxTransformer2DModel.from_config(transformer_config(448))
    native = state_dict.diffusers_to_native(made.state_dict())
    path = tmp_path / "ace_plus_fft.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in native.items()}, path)
    options = LoadOptions(transformer={"ace": str(path)}, axes=(8, 12, 12))
    loaded = load_transformer(options, "ace", Path, torch.float32)
    assert loaded.config.in_channels == 448
    for name, tensor in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.to(dtype).float())


@torch.no_grad()
def test_widened_fill_is_fill_where_nothing_is_to_change(random_flux: Flux) -> None:
    """The mask's columns move from 128 to 192, so the network reads the same before it has learnt."""
    from backbones.widening import widened

    fill = random_flux.transformer("fill")
    wide = widened(fill, 448)
    weight, base = wide.x_embedder.weight, fill.x_embedder.weight
    assert torch.equal(weight[:, :128], base[:, :128])
    assert (weight[:, 128:192] == 0).all()
    assert torch.equal(weight[:, 192:], base[:, 128:])
    given = inputs(mask=True, task="repainting")
    plans = [
        conditioner(random_flux, encoding="mode", **options).plan(given)
        for options in ({}, {"model": "full"})
    ]
    noise = random_flux.noise(plans[0].canvas, [torch.Generator().manual_seed(0)])
    for plan, transformer in zip(plans, (fill, wide), strict=True):
        hidden = torch.cat((noise, plan.conditioning.channel_BLC), dim=-1)
        embedded = transformer.x_embedder(hidden)
        if plan is plans[0]:
            first = embedded
    assert torch.allclose(embedded, first, atol=1e-5)


@torch.no_grad()
def test_references_are_encoded_as_diffusers_encodes_them(random_flux: Flux) -> None:
    """The released script's canvas, of a reference and a masked picture, through FluxFillPipeline."""
    from test_parity import pipeline

    source, reference, mask = photo(128, 128), photo(64, 128, 1), torch.zeros(1, 1, 128, 128)
    mask[..., 40:90, 30:100] = 1
    edit = (source * 2 - 1) * (1 - mask)
    theirs, mine = (torch.Generator().manual_seed(3) for _ in range(2))
    packed, latents = pipeline(FluxFillPipeline, random_flux, "fill").prepare_mask_latents(
        torch.cat((torch.zeros(1, 1, 128, 64), mask), dim=-1),
        torch.cat((reference * 2 - 1, edit), dim=-1),
        *(1, 16, 1, 128, 192, torch.float32, torch.device("cpu"), theirs),
    )
    given = EditInputs(
        prompts=("make it red",),
        source_BCHW=source,
        mask_B1HW=mask,
        references=(reference,),
        generators=(mine,),
    )
    plan = conditioner(random_flux).plan(given)
    assert torch.allclose(plan.conditioning.channel_BLC, torch.cat((latents, packed), dim=-1), atol=1e-4)


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


def test_full_model_edits(random_flux: Flux) -> None:
    editors = [
        editkit.Editor(random_flux, {"aceplus": {"model": "full", "change": change}})
        for change in ("split", "whole", "none")
    ]
    picture, mask = image(64, 64), Image.new("L", (64, 64), 255)
    found = [e.edit(picture, "make it red", "aceplus", steps=2, mask=mask).image for e in editors]
    assert difference(found[0], found[1]) > 5
    assert difference(found[0], found[2]) > 5


def test_a_saved_full_model_is_known_by_its_channels(random_flux: Flux, tmp_path: Path) -> None:
    random_init.save(random_flux, "ace", tmp_path / "ace")
    editor = editkit.load(str(tmp_path / "ace"), options={"aceplus": {"model": "full"}})
    assert set(editor.backbone.roles) == {"ace"}
    mine = editkit.Editor(random_flux, {"aceplus": {"model": "full"}})
    pictures = [
        each.edit(image(64, 64), "make it red", "aceplus", steps=2, guidance=2.0).image
        for each in (editor, mine)
    ]
    assert difference(*pictures) <= 1


def test_whole_input_layer_by_rank() -> None:
    transformer = FluxTransformer2DModel.from_config(transformer_config(448))
    options = adapters.LoraOptions(rank=4, targets=("x_embedder", "attn.to_q"), ranks={"x_embedder": 64})
    adapters.attach(transformer, options)
    layer = transformer.x_embedder
    assert layer.r["default"] == 64  # as many as the layer has outputs: any update at all
    assert layer.scaling["default"] == transformer.transformer_blocks[0].attn.to_q.scaling["default"] == 1
    adapters.eject(transformer, "default")
    for misspelt in ({"embedder": 64}, {"proj_mlp": 8}):
        with pytest.raises(EditkitError, match=r"which lora\.targets does not"):
            adapters.attach(transformer, dataclasses.replace(options, ranks=misspelt))
    with pytest.raises(EditkitError, match=r"lora.ranks.x_embedder must be at least 1"):
        config.build(adapters.LoraOptions, {"ranks": {"x_embedder": 0}})


# Training.


@torch.no_grad()
@pytest.mark.parametrize("layout", ["canvas", "sequence"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_mean_for_each_unit(random_flux: Flux, layout: str, count: int) -> None:
    """Equation 6: the references' mean errors and the target's are added."""
    given = inputs(references=(photo(384, 128, 1), photo(128, 128, 2))[:count])
    made = conditioner(random_flux, layout=layout)
    plan = made.arrange(given)
    trainer = METHOD.trainer(random_flux, made.config)
    rows, columns = 8, [*[24, 8][:count], 8]
    error_BLC = torch.rand(1, rows * sum(columns), 64)
    found = flow.loss(error_BLC.sqrt(), torch.zeros_like(error_BLC), trainer.weights(plan, given))
    units = error_BLC[0].unflatten(0, (rows, -1)).split(columns, dim=1)
    assert float(found) == pytest.approx(sum(float(unit.mean()) for unit in units), rel=1e-4)


@torch.no_grad()
def test_weight_under_the_mask(random_flux: Flux) -> None:
    given = inputs(mask=True, references=(photo(384, 128, 1),))
    plan = conditioner(random_flux).arrange(given)

    def weights(**options: Any) -> Tensor | None:
        trainer = METHOD.trainer(random_flux, config.build(METHOD.config, options))
        found = trainer.weights(plan, given)
        return None if found is None else found[0].unflatten(0, (8, 32))

    assert weights(loss="released") is None
    for loss, total in (("released", 1), ("paper", 2)):
        heavy = weights(loss=loss, mask_weight=3.0)
        assert float(heavy.sum()) == pytest.approx(total, abs=1e-3)
        assert torch.allclose(heavy[:4, 24:26], 3 * heavy[5, 30], rtol=1e-3)
        assert heavy[:, :24].unique().numel() == 1


def trained(tmp_path: Path, output: str, name: str, *overrides: str) -> Path:
    """What a shipped config exports after a step on four pictures."""
    values = config.read(ROOT / "configs" / "tiny" / name) | {"load": {}, "cache": str(tmp_path / "cache")}
    # Muon multiplies in bf16, for which many CPUs have no instructions.
    few = (
        "fit.optim.name=adamw",
        "fit.steps=1",
        "fit.batch=2",
        "data.count=4",
        f"fit.output={tmp_path / output}",
        "fit.device=cpu",
    )
    settings = config.build(EditTrainConfig, values, (*few, *overrides))
    fit(EditJob(settings), settings.fit)
    return tmp_path / output / "export"


def test_records_have_an_instruction_for_each_unit(tmp_path: Path) -> None:
    image(64, 64).save(tmp_path / "picture.png")
    record = {"source": "picture.png", "answer": "picture.png", "references": ["picture.png"]}
    data = tmp_path / "train.jsonl"

    def train(output: str, *instructions: str) -> Path:
        data.write_text("\n".join(json.dumps(record | {"instruction": words}) for words in instructions))
        options = "options={layout: sequence, unit_prompts: true}"
        return trained(
            tmp_path, output, "aceplus-subject.yaml", options, f"data={{name: jsonl, path: {data}}}"
        )

    assert train("lines", "a red circle\nput it there", "a star\nput it there").exists()
    with pytest.raises(EditkitError, match="instruction has 1 of 2 lines"):
        train("line", "put it there", "put it there")


def test_a_second_stage_goes_on_from_the_first(tmp_path: Path) -> None:
    """From text to image to Fill's channels, then references too, by canvas and by sequence."""
    first = trained(tmp_path, "first", "aceplus-stage1.yaml") / "fill"
    for layout in ("canvas", "sequence"):
        second = trained(
            tmp_path, layout, "aceplus-stage2.yaml", f"backbone={first}", f"options.layout={layout}",
            "data.kinds={character: 1, instruction: 1}",
        ) / "fill"  # fmt: skip
        editor = editkit.load(str(second), "cpu", options={"aceplus": {"layout": layout}})
        made = editor.edit(image(128, 128), "red", "aceplus", references=[image(128, 128, 1)], steps=1)
        assert made.image.size == (128, 128)
        started = load_file(first / "transformer" / WEIGHTS)
        moved = load_file(second / "transformer" / WEIGHTS)
        assert started.keys() == moved.keys()
        assert not torch.equal(started["x_embedder.weight"], moved["x_embedder.weight"])


def test_an_input_layer_and_a_lora_train_together(tmp_path: Path) -> None:
    """On Fill behind a wider input, which is what the result is loaded on."""
    lora = "lora={rank: 4, targets: [x_embedder, attn.to_q], ranks: {x_embedder: 192}}"
    optim = ("fit.steps=2", "fit.ema=0", "fit.optim={lr: 0.3}")
    made = trained(tmp_path, "run", "aceplus-full.yaml", "adapter=null", "start=fill", lora, *optim)
    state = load_file(made / adapters.FILE)
    assert state["transformer.x_embedder.lora_A.weight"].shape == (192, 448)
    change = state["transformer.x_embedder.lora_B.weight"] @ state["transformer.x_embedder.lora_A.weight"]
    assert (change[:, 128:192] != 0).any()
    options = {"model": "full", "adapter": None}
    editor = editkit.load("tiny", "cpu", options={"aceplus": options}, transformer={"ace": "fill"})
    before, mask = editor.edit(image(128, 128), "red", "aceplus", steps=1), Image.new("L", (128, 128), 255)
    editor.load_adapter(made, "aceplus")
    after = editor.edit(image(128, 128), "red", "aceplus", steps=1, mask=mask)
    assert difference(before.image, after.image) > 1
    card = (made / "README.md").read_text()
    assert "'model': 'full'" in card
    assert "Base: " in card


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
    whole, where, count = padding.plans(plans, ids, [1] * 3)
    assert count > min(len(each) for each in ids)
    x_BLC = torch.cat([padding.padded(n, w, count) for n, w in zip(noises, where, strict=True)])
    text = padding.texts([plan.conditioning.text for plan in plans])
    whole = dataclasses.replace(whole, conditioning=dataclasses.replace(whole.conditioning, text=text))
    times = torch.tensor((0.3, 0.6, 0.9))
    together = random_flux.velocity(x_BLC, times, whole, 2.0)
    losses = []
    for number, plan in enumerate(plans):
        alone = random_flux.velocity(noises[number], times[number : number + 1], plan, 2.0)
        assert torch.allclose(together[number, where[number]], alone[0], atol=1e-4)
        losses.append(float(flow.loss(alone, torch.zeros_like(alone), weights[number])))
    heavy_BL = torch.cat([padding.padded(w, p, count) for w, p in zip(weights, where, strict=True)])
    joined = float(flow.loss(together, torch.zeros_like(together), heavy_BL))
    assert joined == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    # The mask is what does it.
    open_ = dataclasses.replace(whole.conditioning, valid_BN=None)
    seen = random_flux.velocity(x_BLC, times, dataclasses.replace(whole, conditioning=open_), 2.0)
    assert not torch.allclose(seen[0, where[0]], together[0, where[0]], atol=1e-2)


@pytest.mark.parametrize("name", sorted(shapesworld.MASKED))
def test_masked_examples(name: str) -> None:
    for seed in range(12):
        example = shapesworld.masked_example(seed, name)
        again = shapesworld.masked_example(seed, name)
        assert example.instruction == again.instruction
        assert set(example.instruction.replace(",", "").split()) <= shapesworld.words()
        given = {
            "image": example.source is not None,
            "mask": example.mask is not None,
            "references": bool(example.references),
        }
        assert tasks.chosen(example.task, **given).name == example.task
        if example.mask is None:
            continue
        before, after = (shapesworld.render(scene).astype(int) for scene in (example.source, example.answer))
        outside = example.mask == 0
        assert (np.abs(after - before)[outside] <= 2).all()
        assert (np.abs(after - before)[~outside] > 32).any()


def test_records_of_one_task_stand_together() -> None:
    masked = dataset(DataConfig(name="shapesworld masked", count=40))
    shapes = {buckets.shape_of(masked[n]) for n in range(40)}
    assert len(shapes) == len({masked[n].task for n in range(40)}) >= 5


# Comparing methods.


def test_comparison(random_flux: Flux) -> None:
    from editkit.inference import comparison
    from editkit.judges import judge

    editor = editkit.Editor(random_flux)
    picture = image(96, 64)
    names = ["aceplus", "icedit", "kontext"]
    entries = comparison.compare(
        editor, picture, "make it red", names, steps=1, seed=2, judge=judge("preserve")
    )
    assert [entry.result.method for entry in entries] == names
    assert all(entry.seconds > 0 and 0 <= entry.changed <= 1 for entry in entries)
    assert sum(entry.wins for entry in entries) == 3
    tokens = {entry.result.method: entry.tokens for entry in entries}
    assert tokens == {"aceplus": 64, "icedit": 128, "kontext": 64}
    made = comparison.sheet(picture, entries)
    assert made.width > 4 * 256
    with pytest.raises(EditkitError, match="each once"):
        comparison.compare(editor, picture, "make it red", ["kontext", "kontext"])


def test_comparison_goes_on_where_a_method_fails(random_flux: Flux) -> None:
    from editkit.inference import comparison

    mask = Image.new("L", (10, 10))
    editor = editkit.Editor(random_flux, {"icedit": {"framework": "text"}})
    mask = Image.new("L", (64, 64), 255)
    entries = comparison.compare(
        editor, image(64, 64), "make it red", ["icedit", "kontext"], steps=1, mask=mask
    )
    assert "takes no mask" in entries[0].result.error
    assert entries[1].result.error is None
    assert comparison.sheet(image(64, 64), entries).width > 3 * 256


def test_readme_speaks_of_every_option() -> None:
    text = (ROOT / "methods" / "aceplus" / "README.md").read_text()
    for field in dataclasses.fields(METHOD.config):
        assert re.search(rf"`{field.name}[=`:]|{field.name}=|{field.name}: ", text), field.name
