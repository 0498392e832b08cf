"""Saved steps: compute the tokens that an edit changes, beside keys and values that a full step kept.

After a few full steps, the tokens whose predicted end is the source take their one-step prediction: they go
on along the velocity of the last full step. The others see them through their kept keys and values. RegionE
(arXiv 2510.25590) and diffusers' cache of FLUX.2's references work alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from editkit import notes
from editkit.imaging import canvas
from editkit.inference.partial_plan import plan_of_some, row_of
from editkit.inference.region import Changes, answer_places, masked_cells
from editkit.key_values import KeyValues
from editkit.types import EditInputs, Plan

if TYPE_CHECKING:
    from editkit import flow
    from editkit.inference.planned_batch import Pipeline
    from editkit.inference.speed import StepSaving


class PlannedVelocity(Protocol):
    """A velocity under a plan."""

    def __call__(self, x_BLC: Tensor, t: float, plan: Plan) -> Tensor:
        """Return the velocity, BLC."""


class Saving:
    """A pace that saves work in some steps.

    Args:
        settings: which steps, and which tokens.
    """

    def __init__(self, settings: StepSaving) -> None:
        self.settings = settings

    @property
    def recipe(self) -> str:
        """What a recipe tells, and a request may give."""
        return self.settings.text

    def velocity(
        self, pipeline: Pipeline, inputs: EditInputs, plan: Plan, times: Tensor, guidance: float
    ) -> flow.Velocity:
        """Return the velocity of a planned batch; without a picture to edit, in full."""

        def full(x_BLC: Tensor, t: float, plan: Plan) -> Tensor:
            return pipeline.sampler.velocity(x_BLC, t, plan=plan, guidance=guidance)

        slots = plan.conditioning
        if slots.channel_BLC is None and slots.sequence_BSC is None:
            notes.tell(f"speed={self.recipe} saves work beside a picture's tokens, and here are none; exact.")
            return partial(full, plan=plan)
        backbone = pipeline.backbone
        if plan.conditioning.ids_L3 is None:
            ids_L3 = backbone.grid_ids(plan.canvas.width, plan.canvas.height)
            plan = replace(plan, conditioning=replace(slots, ids_L3=ids_L3))
        answer_N = answer_places(plan)
        cells_BN = None
        source_BNC = None
        if inputs.mask_B1HW is not None:
            cells_BN = masked_cells(inputs.mask_B1HW, plan, self.settings.grow)
        elif inputs.source_BCHW is not None:
            source_BNC = backbone.encode(canvas.place(inputs.source_BCHW, plan.canvas))
        changes = Changes(plan=plan, settings=self.settings, cells_BN=cells_BN, source_BNC=source_BNC)
        return SavedVelocity(full, plan, times.tolist(), self.settings, changes, answer_N)


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What a full step leaves for saved ones.

    Attributes:
        velocity_BLC: its velocity.
        kept: the keys and values of its image tokens.
        active_BL: mask of the tokens that saved steps compute.
    """

    velocity_BLC: Tensor
    kept: KeyValues
    active_BL: Tensor

    def row(self, number: int) -> Memory:
        """Select one picture of the batch."""
        return Memory(
            velocity_BLC=self.velocity_BLC[number : number + 1],
            kept=self.kept.row(number),
            active_BL=self.active_BL[number : number + 1],
        )


class SavedVelocity:
    """The velocity of a batch, in full or of some tokens, by the step of the schedule.

    It remembers the last full step, so it is called with rising steps. `computed` counts the canvas' tokens
    that were computed, by call.

    Args:
        full: gives the velocity under a plan.
        plan: the batch's plan, with ids of all tokens of the canvas.
        times: times of the schedule.
        settings: which steps are saved.
        changes: says which tokens change.
        answer_N: places of the answer panel's tokens.
    """

    def __init__(
        self,
        full: PlannedVelocity,
        plan: Plan,
        times: list[float],
        settings: StepSaving,
        changes: Changes,
        answer_N: Tensor,
    ) -> None:
        self._full, self._plan, self._settings, self._changes = full, plan, settings, changes
        self._answer_N = answer_N
        self._steps = {time: step for step, time in enumerate(times[:-1])}
        self._memory: Memory | None = None
        self.computed: list[int] = []

    def resumed(self, other: SavedVelocity, row: int) -> SavedVelocity:
        """Take over what another velocity remembers of one picture of its batch."""
        self._memory = None if other._memory is None else other._memory.row(row)
        return self

    def __call__(self, x_BLC: Tensor, t: float) -> Tensor:
        """Return the velocity at a time of the schedule, BLC."""
        step = self._steps[t]
        if self._memory is None or self._is_full(step):
            return self._full_step(x_BLC, t, keeps=not self._is_full(step + 1))
        return self._saved_step(x_BLC, t, self._memory)

    def _is_full(self, step: int) -> bool:
        """Whether the schedule has this step in full."""
        settings, count = self._settings, len(self._steps)
        if step < settings.full_steps or step >= count - settings.last_steps:
            return True
        period = settings.refresh + 1
        return bool(settings.refresh) and (step - settings.full_steps) % period == settings.refresh

    def _full_step(self, x_BLC: Tensor, t: float, keeps: bool) -> Tensor:
        self.computed.append(x_BLC.shape[0] * x_BLC.shape[1])
        if not keeps:
            self._memory = None
            return self._full(x_BLC, t, self._plan)
        kept = KeyValues()
        slots = replace(self._plan.conditioning, kept=kept)
        velocity_BLC = self._full(x_BLC, t, replace(self._plan, conditioning=slots))
        changed_BN = self._changes.of(x_BLC.float() - t * velocity_BLC.float())
        active_BL = torch.zeros(x_BLC.shape[:2], dtype=torch.bool)
        active_BL[:, self._answer_N] = changed_BN.expand(len(x_BLC), -1)
        self._memory = Memory(velocity_BLC=velocity_BLC, kept=kept, active_BL=active_BL.to(x_BLC.device))
        return velocity_BLC

    def _saved_step(self, x_BLC: Tensor, t: float, memory: Memory) -> Tensor:
        """Compute the active tokens: of all pictures at once where these are the same, else one by one."""
        velocity_BLC, active_BL = memory.velocity_BLC.clone(), memory.active_BL
        self.computed.append(int(active_BL.sum()))
        if bool((active_BL == active_BL[:1]).all()):
            plan, held = self._plan, memory.kept
            self._fill(velocity_BLC, x_BLC, t, plan, held, active_BL[0])
            return velocity_BLC
        for number in range(len(x_BLC)):
            one, rows = memory.row(number), slice(number, number + 1)
            plan = replace(self._plan, conditioning=row_of(self._plan.conditioning, number))
            self._fill(velocity_BLC[rows], x_BLC[rows], t, plan, one.kept, one.active_BL[0])
        return velocity_BLC

    def _fill(
        self, velocity_BLC: Tensor, x_BLC: Tensor, t: float, plan: Plan, kept: KeyValues, active_L: Tensor
    ) -> None:
        """Replace the velocity of the active tokens, in place, by one that is computed for them alone."""
        if not active_L.any():
            return
        part, computed_L = plan_of_some(plan, kept, active_L)
        found_BMC = self._full(x_BLC[:, computed_L], t, part)
        velocity_BLC[:, active_L] = found_BMC[:, active_L[computed_L]]
