"""Kontext on folders of FLUX.1's config."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxKontextPipeline

import editkit
from tests.rehearsal import acts
from tests.rehearsal.figures import start, tell
from tests.rehearsal.stage import Stage

pytestmark = pytest.mark.slow


def test_the_folder_is_diffusers(stage: Stage, kontext: editkit.Editor) -> None:
    """diffusers loads it unchanged, to the same tensors."""
    start()
    built = FluxKontextPipeline.from_pretrained(stage.folder / "kontext", torch_dtype=stage.dtype)
    flux = kontext.backbone
    for one, other in (
        (built.transformer, flux.transformer("kontext")),
        (built.vae, flux.vae),
        (built.text_encoder, flux.encoders.clip),
        (built.text_encoder_2, flux.encoders.t5),
    ):
        state, expected = one.state_dict(), other.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in state)
    tell("the kontext folder in diffusers", "the same tensors")


@pytest.mark.parametrize("place", [0, 1])
def test_latents(stage: Stage, kontext: editkit.Editor, place: int) -> None:
    acts.kontext(stage, kontext, stage.scale.sizes[place])


def test_negative_prompt(stage: Stage, kontext: editkit.Editor) -> None:
    acts.kontext_negative(stage, kontext)


def test_mask_and_reference(stage: Stage, kontext: editkit.Editor) -> None:
    acts.kontext_picture(stage, kontext)
