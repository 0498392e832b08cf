"""ACE++ through editkit, and the same through diffusers, or its parts, on the same seed."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxFillPipeline
from PIL import Image
from torch import Tensor

import editkit
from editkit import EditRequest
from tests.parity.pipelines import pipeline
from tests.pictures import image
from tests.rehearsal.edits import (
    PROMPT,
    SEED,
    bare,
    compare,
    latents,
    mask,
    other,
    with_lora,
)
from tests.rehearsal.figures import start
from tests.rehearsal.networks import LENGTH, PUBLISHED
from tests.rehearsal.remembered import remembering
from tests.rehearsal.stage import Stage


def aceplus(stage: Stage, editor: editkit.Editor) -> None:
    """A LoRA in the released layout, and a picture that is painted under a mask.

    diffusers reads that layout at FLUX.1's width alone; a smaller network goes without.
    """
    side, file = stage.scale.canvas, stage.ace() if stage.scale.width == PUBLISHED.width else None
    picture, hole = image(side, side), mask(side, side)
    options = {"max_tokens": side * side // 256, "adapter": None if file is None else str(file)}
    asked = EditRequest(
        image=picture, mask=hole, instruction=PROMPT, method="aceplus", task="repainting", seed=SEED, steps=1
    )
    start()
    with remembering(editor):
        with bare(editor, "fill"):
            planned, mine = latents(editkit.Editor(editor.backbone, {"aceplus": options}), asked)
        theirs = with_lora(
            editor, file,
            lambda: other(
                editor, FluxFillPipeline, "fill", picture,
                mask_image=hole, num_inference_steps=1, guidance_scale=50.0, latents=planned.start.x_BLC,
            ),
        )  # fmt: skip
    assert (planned.plan.canvas.width, planned.plan.canvas.height) == (side, side)
    compare(f"aceplus{', LoRA' if file else ''}, mask, {side}x{side}", mine, theirs)


def aceplus_references(stage: Stage, editor: editkit.Editor) -> None:
    """A reference beside a masked picture, as the released script lays them out, through FluxFillPipeline."""
    side = stage.scale.side
    picture, hole, reference = image(side, side), mask(side, side), image(side // 2, side, 1)
    asked = EditRequest(
        image=picture, mask=hole, references=[reference], instruction=PROMPT,
        method="aceplus", task="local_reference", seed=SEED, steps=1,
    )  # fmt: skip
    wide, left = Image.new("RGB", (side * 3 // 2, side)), Image.new("L", (side * 3 // 2, side))
    wide.paste(reference, (0, 0))
    wide.paste(picture, (side // 2, 0))
    left.paste(hole, (side // 2, 0))
    start()
    with remembering(editor, "fill") as networks:
        planned, mine = latents(editor.configured({"aceplus": {"adapter": None}}), asked)
        theirs = other(
            editor, FluxFillPipeline, "fill", wide,
            mask_image=left, num_inference_steps=1, guidance_scale=50.0, latents=planned.start.x_BLC,
        )  # fmt: skip
    assert all(network.computed == 1 for network in networks[1:])
    compare(f"aceplus, mask and reference, {wide.width}x{side}", mine, theirs)


@torch.no_grad()
def full_model(stage: Stage, editor: editkit.Editor) -> None:
    """448 channels, for which diffusers has no pipeline: its parts make the conditions, its network steps."""
    side, flux = stage.scale.side, editor.backbone
    picture, hole = image(side, side), mask(side, side)
    asked = EditRequest(
        image=picture, mask=hole, instruction=PROMPT, method="aceplus", task="repainting", seed=SEED, steps=1
    )
    options = {"model": "full", "encoding": "mode", "adapter": None, "scale": 0.0}
    start()
    planned, mine = latents(editor.configured({"aceplus": options}), asked)
    built = pipeline(FluxFillPipeline, flux, "ace")
    pixels = built.image_processor.preprocess(picture, height=side, width=side)
    holes = built.mask_processor.preprocess(hole, height=side, width=side)
    # The picture outside the mask, the content under it, the mask.
    shown = [_encoded(built, part) for part in (pixels * (1 - holes), pixels * holes)]
    packed, _ = built.prepare_mask_latents(
        holes, torch.zeros(1, 16, side // 8, side // 8), 1, 16, 1, side, side, flux.dtype, flux.device, None
    )
    conditions = torch.cat((*shown, packed), dim=-1)
    compare("aceplus, full model, conditions", planned.plan.conditioning.channel_BLC, conditions)
    embeds, pooled, text_ids = built.encode_prompt(
        prompt=PROMPT, prompt_2=None, max_sequence_length=LENGTH, device=flux.device
    )
    velocity = built.transformer(
        hidden_states=torch.cat((planned.start.x_BLC, conditions), dim=-1),
        timestep=torch.ones(1, device=flux.device, dtype=flux.dtype),
        guidance=torch.full((1,), 50.0, device=flux.device),
        encoder_hidden_states=embeds,
        pooled_projections=pooled,
        txt_ids=text_ids,
        img_ids=flux.grid_ids(side, side),
        return_dict=False,
    )[0]
    compare(f"aceplus, full model, {side}x{side}", mine, planned.start.x_BLC - velocity)


def _encoded(built: Any, pixels_BCHW: Tensor) -> Tensor:
    """Packed latents of a picture in [-1, 1], by the parts of diffusers' pipeline."""
    latents_BChw = built.vae.encode(pixels_BCHW.to(built.vae.device, built.vae.dtype)).latent_dist.mode()
    scaled_BChw = (latents_BChw - built.vae.config.shift_factor) * built.vae.config.scaling_factor
    return built._pack_latents(scaled_BChw, 1, 16, *scaled_BChw.shape[-2:])
