"""Saved steps: compute the tokens that an edit changes, beside keys and values that a full step kept.

After a few full steps, the tokens whose predicted end is the source take their one-step prediction: they go
on along the velocity of the last full step. The others see them through their kept keys and values. RegionE
(arXiv 2510.25590) and diffusers' cache of FLUX.2's references work alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from editkit import notes
from editkit.errors import EditkitError
from editkit.imaging import canvas
from editkit.inference import draft
from editkit.inference.partial_plan import plan_of_some, row_of
from editkit.inference.region import Changes, answer_places, masked_cells
from editkit.inference.speed_settings import as_text
from editkit.key_values import KeyValues
from editkit.types import EditInputs, Plan

if TYPE_CHECKING:
    from editkit import flow
    from editkit.config import Options
    from editkit.inference.planned_batch import Pipeline
    from editkit.inference.speed_settings import StepSaving


class PlannedVelocity(Protocol):
    """A velocity under a plan."""

    def __call__(self, x_BLC: Tensor, now: float, then: float, plan: Plan) -> Tensor:
        """Return the velocity, BLC."""


class Saving:
    """A pace that saves work in some steps.

    Args:
        settings: which steps, and which tokens.
    """

    def __init__(self, settings: StepSaving) -> None:
        self.settings = settings

    def options(self, options: Options) -> Options:
        """Return a method's options with the settings' context.

        Raises:
            EditkitError: where the method has no such option, or not beside its others.
        """
        if self.settings.context is None:
            return options
        if not hasattr(options, "context"):
            raise EditkitError("This method has no option context; leave context out of speed.")
        try:
            return replace(options, context=self.settings.context)
        except ValueError as error:
            raise EditkitError(f"The speed does not fit the method's options: {error}.") from error

    def cache(self, role: str, steps: int, start: int) -> None:
        """Return None: no blocks are skipped but by the backbone's own cache."""

    @property
    def recipe(self) -> str:
        """Return the settings as a recipe holds them and as a request may give them."""
        return as_text(self.settings)

    def velocity(
        self,
        pipeline: Pipeline,
        inputs: EditInputs,
        plan: Plan,
        times: Tensor,
        guidance: float,
        on_step: Callable[[], None] | None = None,
    ) -> flow.Velocity:
        """Return the velocity of a planned batch; where nothing can be saved, in full.

        Raises:
            EditkitError: where the backbone was loaded with a cache of blocks.
        """
        full, slots = partial(pipeline.sampler.velocity, guidance=guidance), plan.conditioning
        if not self._can_save(plan):
            notes.tell(
                "No tokens of a picture stand beside the noise here, so this speed saves nothing; every step "
                "is computed in full."
            )
            return partial(full, plan=plan)
        if pipeline.backbone.loading().get("cache"):  # before a draft, whose steps it would remember
            raise EditkitError(
                "Saved steps do not go together with the loading option `cache`; leave one of the two out."
            )
        if slots.context_apart and not self.settings.region:
            return partial(full, plan=plan)  # the context is all that could be saved, and is computed once
        backbone = pipeline.backbone
        if slots.ids_L3 is None:
            ids_L3 = backbone.grid_ids(plan.canvas.width, plan.canvas.height)
            plan = replace(plan, conditioning=replace(slots, ids_L3=ids_L3))
        answer_N = answer_places(plan)
        cells_BN = None
        source_BNC = None
        if inputs.mask_B1HW is not None:
            cells_BN = masked_cells(inputs.mask_B1HW, plan, self.settings.grow)
        elif inputs.source_BCHW is not None and self.settings.draft:
            cells_BN = draft.changed_cells(pipeline, inputs, plan, self.settings, guidance, on_step)
        elif inputs.source_BCHW is not None:
            source_BNC = backbone.encode(canvas.place(inputs.source_BCHW, plan.canvas))
        changes = Changes(plan=plan, settings=self.settings, cells_BN=cells_BN, source_BNC=source_BNC)
        return SavedVelocity(full, plan, times.tolist(), self.settings, changes, answer_N)

    def _can_save(self, plan: Plan) -> bool:
        """Whether a plan may have a region, or has tokens of a picture beside those of the answer."""
        slots, whole = plan.conditioning, plan.canvas
        if slots.sequence_BSC is not None:
            return True
        alone = (whole.answer.width, whole.answer.height) == (whole.width, whole.height)
        return slots.channel_BLC is not None and (self.settings.region or not alone)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The tokens that a saved step computes for some pictures of a batch.

    Attributes:
        rows: the pictures.
        active_L: mask of the canvas' tokens whose velocity is computed.
        computed_L: the same and the given tokens, which the plan needs.
        plan: a plan of those tokens, which holds the keys and values of the others.
    """

    rows: slice
    active_L: Tensor
    computed_L: Tensor
    plan: Plan

    def row(self, number: int) -> Part:
        """Select one picture, which becomes the only one."""
        slots = row_of(self.plan.conditioning, number - self.rows.start)
        return replace(self, rows=slice(0, 1), plan=replace(self.plan, conditioning=slots))


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """The results that a full step keeps for saved steps: its velocity, and the tokens still to compute."""

    velocity_BLC: Tensor
    parts: tuple[Part, ...]

    def row(self, number: int) -> Memory:
        """Select one picture of the batch."""
        parts = (part.row(number) for part in self.parts if part.rows.start <= number < part.rows.stop)
        return Memory(velocity_BLC=self.velocity_BLC[number : number + 1], parts=tuple(parts))


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

    def __call__(self, x_BLC: Tensor, now: float, then: float) -> Tensor:
        """Return the velocity from one time of the schedule to the next, BLC."""
        step = self._steps[now]
        if self._memory is None or self._is_full(step):
            return self._full_step(x_BLC, now, then, keeps=not self._is_full(step + 1))
        return self._saved_step(x_BLC, now, then, self._memory)

    def _is_full(self, step: int) -> bool:
        """Whether the schedule has this step in full."""
        settings, count = self._settings, len(self._steps)
        if step < settings.full_steps or step >= count - settings.last_steps:
            return True
        period = settings.refresh + 1
        return bool(settings.refresh) and (step - settings.full_steps) % period == settings.refresh

    def _full_step(self, x_BLC: Tensor, now: float, then: float, keeps: bool) -> Tensor:
        self.computed.append(x_BLC.shape[0] * x_BLC.shape[1])
        self._memory = None  # freed before the next one is made
        if not keeps:
            return self._full(x_BLC, now, then, plan=self._plan)
        kept = KeyValues()
        slots = replace(self._plan.conditioning, kept=kept)
        velocity_BLC = self._full(x_BLC, now, then, plan=replace(self._plan, conditioning=slots))
        changed_BN = self._changes.of(x_BLC.float() - now * velocity_BLC.float())
        active_BL = torch.zeros(x_BLC.shape[:2], dtype=torch.bool)
        active_BL[:, self._answer_N] = changed_BN.cpu().expand(len(x_BLC), -1)
        parts = tuple(self._parts(kept, active_BL.to(x_BLC.device)))
        self._memory = Memory(velocity_BLC=velocity_BLC, parts=parts)
        return velocity_BLC

    def _parts(self, kept: KeyValues, active_BL: Tensor) -> Iterator[Part]:
        """Yield what saved steps compute: all pictures at once where they change alike, else one by one."""
        slots, count = self._plan.conditioning, len(active_BL)
        alike = bool((active_BL == active_BL[:1]).all())
        for number in range(1 if alike else count):
            if not active_BL[number].any():
                continue
            own, keys = (slots, kept) if alike else (row_of(slots, number), kept.row(number))
            plan, computed_L = plan_of_some(replace(self._plan, conditioning=own), keys, active_BL[number])
            rows = slice(0, count) if alike else slice(number, number + 1)
            yield Part(rows=rows, active_L=active_BL[number], computed_L=computed_L, plan=plan)

    def _saved_step(self, x_BLC: Tensor, now: float, then: float, memory: Memory) -> Tensor:
        """Compute the active tokens; the others go on along the velocity of the last full step."""
        velocity_BLC, computed = memory.velocity_BLC.clone(), 0
        for part in memory.parts:
            found_BMC = self._full(x_BLC[part.rows][:, part.computed_L], now, then, plan=part.plan)
            velocity_BLC[part.rows, part.active_L] = found_BMC[:, part.active_L[part.computed_L]]
            computed += len(found_BMC) * int(part.active_L.sum())
        self.computed.append(computed)
        return velocity_BLC
