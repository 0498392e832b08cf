"""The last steps of an edit: from latents to pictures, and to results with their recipes and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from PIL import Image
from torch import Tensor

from editkit import flow
from editkit.backbone import Backbone
from editkit.errors import EditkitError
from editkit.imaging import canvas, images
from editkit.inference import postprocess, provenance
from editkit.inference.inputs import PreparedRequest
from editkit.inference.planned_batch import DenoiseState, PlannedBatch
from editkit.inference.postprocess import EditedImage
from editkit.types import EditResult


def decode_and_postprocess(planned: PlannedBatch, x0_BLC: Tensor) -> list[EditedImage]:
    """Do steps 6 and 7: turn latents into pictures of the input's size, aligned and preserved as requested.

    Raises:
        EditkitError: where latents or pixels are not finite.
    """
    return edited_images(planned, x0_BLC, decode(planned, x0_BLC))


def decode(planned: PlannedBatch, x0_BLC: Tensor) -> Tensor:
    """Do step 6: decode latents, cut off the padding and restore the input's exact size; BCHW on the CPU.

    Raises:
        EditkitError: where latents or pixels are not finite.
    """
    backbone = planned.pipeline.backbone
    tokens_BLC, panel = canvas.decoded_tokens(x0_BLC, planned.plan.canvas, backbone.panels_alone)
    pixels_BCHW = canvas.restore(backbone.decode(tokens_BLC, panel.width, panel.height), panel).cpu()
    if not (torch.isfinite(x0_BLC).all() and torch.isfinite(pixels_BCHW).all()):
        raise EditkitError(
            "The result is not finite; use dtype float32 or bfloat16, and weights that are not damaged."
        )
    return pixels_BCHW


def edited_images(planned: PlannedBatch, x0_BLC: Tensor, pixels_BCHW: Tensor) -> list[EditedImage]:
    """Do step 7: measure motion, align and preserve each picture of the batch.

    Where a batch has no mask, the change is inferred; latents that differ from the source's help to find it.
    """
    backbone, inputs = planned.pipeline.backbone, planned.inputs
    suspects: Sequence[Tensor | None] = [None] * len(planned.batch)
    if inputs.source_BCHW is not None and inputs.mask_B1HW is None:
        source_BLC = backbone.encode(canvas.place(inputs.source_BCHW, planned.plan.canvas))
        answer_BLC = canvas.answer_tokens(x0_BLC, planned.plan.canvas)
        suspects = list(torch.split(postprocess.suspects(source_BLC, answer_BLC, planned.plan.canvas), 1))
    each = zip(planned.batch, torch.split(pixels_BCHW, 1), suspects, strict=True)
    return [postprocess.finish(*parts) for parts in each]


def results(
    planned: PlannedBatch, edited: Sequence[EditedImage], timings: dict[str, float]
) -> list[EditResult]:
    """Do step 8: make each request's result, with its recipe and its notes."""
    pipeline, backbone = planned.pipeline, planned.pipeline.backbone
    shared = {
        "method": pipeline.method.name,
        "options": asdict(pipeline.options),
        "backbone": backbone.name,
        "loading": backbone.loading(),
        "weights": backbone.fingerprints(planned.plan.role),
        "canvas": [planned.plan.canvas.width, planned.plan.canvas.height],
        "tokens": planned.start.x_BLC.shape[1],
        "steps": len(planned.times) - 1,
        "guidance": planned.guidance,
        "speed": pipeline.pace.recipe,
        "precision": str(backbone.dtype).removeprefix("torch."),
        "device": str(backbone.device),
    }
    return [
        EditResult(
            image=_picture(item, made),
            method=pipeline.method.name,
            seed=item.request.seed,
            recipe=provenance.make(**item.recipe_settings(), **shared),
            timings=timings,
            notes=(
                *(() if item.told else notes_on_pictures(backbone, item)),
                *backbone.remarks(item.request.instruction),
                *made.notes,
            ),
            change=None if made.change_11HW is None else images.gray(made.change_11HW),
            alignment=made.alignment,
        )
        for item, made in zip(planned.batch, edited, strict=True)
    ]


def notes_on_pictures(backbone: Backbone, item: PreparedRequest) -> list[str]:
    """Return what should be known of a request's pictures; this loads nothing."""
    return [*item.notes, *(backbone.remarks_on_picture(item.source.rgb) if item.source else ())]


def previews(planned: PlannedBatch, state: DenoiseState) -> list[Image.Image]:
    """Extrapolate a state's last step to time 0 and decode it: what the edit would look like now."""
    assert state.before_BLC is not None, "a preview needs a step"
    now, then = planned.times[state.step - 1].item(), planned.times[state.step].item()
    edited = decode_and_postprocess(planned, flow.endpoint(state.before_BLC, state.x_BLC, now, then))
    return [_picture(item, each) for item, each in zip(planned.batch, edited, strict=True)]


def _picture(item: PreparedRequest, edited: EditedImage) -> Image.Image:
    return images.picture(edited.pixels_1CHW, item.source.alpha if item.source else None)
