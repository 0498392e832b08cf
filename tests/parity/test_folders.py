"""Saved pipelines and adapters give the same in diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FluxFillPipeline,
    FluxKontextPipeline,
)
from PIL import Image

import editkit
from backbones import specs
from backbones.flux import Flux
from editkit import adapters
from tests.parity.pipelines import PROMPT, SIZES, STEPS, assert_fill_is_diffusers
from tests.pictures import difference, image


def test_shipped_fill() -> None:
    """The folder loads in diffusers unchanged, and gives there what it gives here."""
    built = FluxFillPipeline.from_pretrained(specs.TINY / "fill", torch_dtype=torch.float32)
    built.set_progress_bar_config(disable=True)
    built.vae.to(memory_format=torch.channels_last)  # as editkit has it; convolutions round otherwise in it
    flux = editkit.load("tiny", "cpu").backbone
    flux.use_components_of("fill")
    assert_fill_is_diffusers(flux, built, 128, 128, 1.0)


@pytest.fixture(scope="module", params=["random", "shipped"])
def folder(request: pytest.FixtureRequest) -> Path:
    """A pipeline folder: of random weights, and the one that editkit ships."""
    if request.param == "random":
        return request.getfixturevalue("random_pipeline")
    shipped = specs.TINY / "kontext"
    assert (shipped / "model_index.json").is_file(), f"{shipped} is missing: train configs/tiny/kontext.yaml"
    return shipped


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[editkit.Editor, Any]:
    """The folder as editkit loads it, and as diffusers does, unchanged."""
    built = FluxKontextPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    built.set_progress_bar_config(disable=True)
    return editkit.load(str(folder), "cpu", options={"kontext": {"sizes": "exact"}}), built


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_saved_pipeline_gives_the_same_picture(
    loaded: tuple[editkit.Editor, Any], width: int, height: int
) -> None:
    editor, built = loaded
    picture = image(width, height)
    mine = editor.edit(picture, PROMPT, seed=5, steps=STEPS, guidance=2.0)
    (other,) = built(
        image=picture,
        prompt=PROMPT,
        width=width,
        height=height,
        max_area=width * height,
        _auto_resize=False,
        num_inference_steps=STEPS,
        guidance_scale=2.0,
        max_sequence_length=48,
        generator=torch.Generator().manual_seed(5),
    ).images
    assert isinstance(mine.image, Image.Image)
    assert difference(mine.image, other) <= 1
    assert difference(mine.image, picture) > 10


def test_saved_pipeline_is_the_one_in_memory(random_flux: Flux, random_pipeline: Path) -> None:
    saved = editkit.load(str(random_pipeline), "cpu", "float32").backbone
    for one, other in (
        (saved.vae, random_flux.vae),
        (saved.encoders.clip, random_flux.encoders.clip),
        (saved.encoders.t5, random_flux.encoders.t5),
        (saved.transformer("kontext"), random_flux.transformer("kontext")),
    ):
        state, expected = one.state_dict(), other.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in state)
    text, expected = saved.text([PROMPT]), random_flux.encoders([PROMPT])
    assert torch.equal(text.tokens_BTD, expected.tokens_BTD)
    assert torch.equal(text.pooled_BD, expected.pooled_BD)


def test_adapter_that_editkit_saved_in_diffusers(random_pipeline: Path, tmp_path: Path) -> None:
    editor = editkit.load(str(random_pipeline), "cpu", options={"kontext": {"sizes": "exact"}})
    transformer = editor.backbone.transformer("kontext")
    picture, arguments = image(96, 96), {"seed": 3, "steps": 2, "guidance": 2.0}
    before = editor.edit(picture, PROMPT, **arguments)
    options = adapters.LoraOptions(rank=2, alpha=3.0)
    adapters.attach(transformer, options)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    adapters.save(transformer, tmp_path)
    editor.use_adapters(["default"])
    mine = editor.edit(picture, PROMPT, **arguments)
    built = FluxKontextPipeline.from_pretrained(random_pipeline, torch_dtype=torch.float32)
    built.set_progress_bar_config(disable=True)
    built.load_lora_weights(tmp_path)
    (other,) = built(
        image=picture,
        prompt=PROMPT,
        width=96,
        height=96,
        max_area=96 * 96,
        _auto_resize=False,
        num_inference_steps=2,
        guidance_scale=2.0,
        max_sequence_length=48,
        generator=torch.Generator().manual_seed(3),
    ).images
    assert difference(mine.image, other) <= 1
    assert difference(mine.image, before.image) > 10
