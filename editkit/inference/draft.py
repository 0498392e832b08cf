"""Draft an edit at half the side, to learn which tokens it changes before any full step.

SpecEdit (arXiv 2605.02152) finds the tokens to refine by a draft, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from editkit import flow
from editkit.imaging import canvas
from editkit.inference import postprocess
from editkit.types import EditInputs, Plan

if TYPE_CHECKING:
    from editkit.inference.planned_batch import Pipeline
    from editkit.inference.speed_settings import StepSaving

SEED = 0
"""Seed of a draft's noise, the same for every picture, so that a batch gives what single edits give."""


def changed_cells(
    pipeline: Pipeline,
    inputs: EditInputs,
    plan: Plan,
    settings: StepSaving,
    guidance: float,
    on_step: Callable[[], None] | None = None,
) -> Tensor:
    """Find the tokens of the answer panel, BN, that a draft of a batch changes, grown.

    One row stands for all where the inputs are alike, as those of several seeds are.

    Args:
        pipeline: the method on its backbone.
        inputs: the batch, with a source.
        plan: the batch's plan at its full size.
        settings: number of steps of the draft, threshold, and by how much the area grows.
        guidance: distilled guidance.
        on_step: called after each step of the draft; an exception from it ends the edit.
    """
    inputs = first_of_alike(inputs)
    assert inputs.source_BCHW is not None
    backbone, panel = pipeline.backbone, plan.canvas.answer
    generators = tuple(torch.Generator().manual_seed(SEED) for _ in inputs.prompts)
    size = half(panel.width), half(panel.height)
    small = pipeline.conditioner.plan(replace(inputs, size=size, generators=generators))
    start_BLC = pipeline.sampler.start(small, backbone.noise(small.canvas, generators))
    times = flow.schedule(settings.draft, start_BLC.shape[1], backbone.time_shift(small.role))
    velocity = partial(pipeline.sampler.velocity, plan=small, guidance=guidance)
    x_BLC = start_BLC
    for step_BLC in flow.euler_steps(velocity, start_BLC, times):
        x_BLC = step_BLC
        if on_step:
            on_step()
    answer_BNC = canvas.answer_tokens(x_BLC, small.canvas)
    source_BNC = backbone.encode(canvas.place(inputs.source_BCHW, small.canvas))
    cells_B1hw = postprocess.changed_cells(source_BNC, answer_BNC, small.canvas, settings.threshold)
    cells = panel.height // canvas.GRID, panel.width // canvas.GRID
    large_B1hw = F.interpolate(cells_B1hw.float(), cells, mode="nearest") > 0.5
    return canvas.dilate(large_B1hw, settings.grow).flatten(1).cpu()


def first_of_alike(inputs: EditInputs) -> EditInputs:
    """Keep the first row of a batch where all rows are equal."""
    pictures = [each for each in (inputs.source_BCHW, *inputs.references) if each is not None]
    texts = (inputs.prompts, inputs.negatives or ())
    if any(len(set(each)) > 1 for each in texts) or not all(
        bool((each == each[:1]).all()) for each in pictures
    ):
        return inputs
    return replace(
        inputs,
        prompts=inputs.prompts[:1],
        source_BCHW=None if inputs.source_BCHW is None else inputs.source_BCHW[:1],
        references=tuple(each[:1] for each in inputs.references),
        negatives=None if inputs.negatives is None else inputs.negatives[:1],
    )


def half(side: int) -> int:
    """Return about half a side, a multiple of the grid."""
    return max(1, round(side / 2 / canvas.GRID)) * canvas.GRID
