"""Condition units: what stands under the mask, and on which channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from backbones.flux import Flux
from editkit.imaging import canvas
from methods.aceplus import lcu, tasks
from tests.methods.aceplus.plans import conditioner, inputs
from tests.pictures import photo


@pytest.mark.parametrize("scale", [0.0, 0.5, None])
def test_the_scale_asked_for_counts(scale: float | None) -> None:
    """0 is a scale like any other, and null is the task's own."""
    flux: Any = type("Flux", (), {"sizes": lambda self, role: ()})()
    given = inputs(mask=True, task="repainting")
    made = conditioner(flux, scale=scale)
    panel, _ = made._panel(given)
    shown = made._target_unit(
        given, tasks.choose("repainting", image=True, mask=True, references=False), panel
    )
    under = given.mask_B1HW.expand_as(shown.image_BCHW) > 0
    wanted = (given.source_BCHW - 0.5) * (1 - (1.0 if scale is None else scale)) + 0.5
    assert torch.allclose(shown.image_BCHW[under], wanted[under], atol=1e-6)


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
    plan = conditioner(random_flux).plan_without_text(given)
    panel = plan.canvas
    assert (panel.width, panel.height) == (128, 128)

    pixels, mask = (canvas.place(each, panel) for each in (given.source_BCHW, given.mask_B1HW))
    fill = random_flux.inpainting(pixels, mask)
    assert torch.allclose(plan.conditioning.channel_BLC, fill, atol=1e-5)
