"""Define what the steps of an edit pass on: a method on its backbone, a planned batch, its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from editkit import flow, notes
from editkit.backbone import Backbone
from editkit.config import Options
from editkit.inference.inputs import PreparedRequest
from editkit.method import Method
from editkit.types import EditInputs, EditRequest, Plan


class Pace(Protocol):
    """Decides what each step of an edit computes."""

    @property
    def recipe(self) -> str:
        """Return the settings as a recipe holds them and as a request's `speed` may give them."""

    def options(self, options: Options) -> Options:
        """Return the options of a method at this pace.

        Raises:
            EditkitError: where the method lacks an option that the pace needs.
        """

    def cache(self, role: str, steps: int, start: int) -> dict[str, Any] | None:
        """Return the cache that skips blocks, as the loading option `cache`; None for the backbone's own.

        Args:
            role: the transformer's role.
            steps: number of steps of the schedule.
            start: number of steps that were taken before.

        Raises:
            EditkitError: where the cache needs ratios that were not measured for the role.
        """

    def velocity(
        self,
        pipeline: Pipeline,
        inputs: EditInputs,
        plan: Plan,
        times: Tensor,
        guidance: float,
        on_step: Callable[[], None] | None = None,
    ) -> flow.Velocity:
        """Return the velocity of a planned batch at the times of its schedule.

        `on_step` is called after each step that is computed here, before the first one of the schedule.
        """


class Exact:
    """The pace that computes everything in every step."""

    recipe: str = "exact"

    def options(self, options: Options) -> Options:
        """Return the options as they are."""
        return options

    def cache(self, role: str, steps: int, start: int) -> dict[str, Any] | None:
        """Return None: nothing is skipped but by the backbone's own cache."""
        return None

    def velocity(
        self,
        pipeline: Pipeline,
        inputs: EditInputs,
        plan: Plan,
        times: Tensor,
        guidance: float,
        on_step: Callable[[], None] | None = None,
    ) -> flow.Velocity:
        """Return the sampler's own velocity."""
        return partial(pipeline.sampler.velocity, plan=plan, guidance=guidance)


class Pipeline:
    """A method on a backbone, with its conditioner and its sampler.

    Args:
        backbone: the loaded backbone.
        method: the method's record.
        options: the method's options.
        pace: decides what each step computes; everything where None.
        adapted: whether a user's adapter is in use, which may have been trained for any of the options.
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method[Options],
        options: Options,
        pace: Pace | None = None,
        adapted: bool = False,
    ) -> None:
        self.backbone, self.method, self.options, self.adapted = backbone, method, options, adapted
        self.pace: Pace = pace or Exact()
        own = self.pace.options(options)
        self.conditioner = method.conditioner(backbone, own)
        self.sampler = method.sampler(backbone, own)

    def defaults(self, role: str, request: EditRequest) -> tuple[int, float]:
        """Return steps and guidance of the request, of the method on its default role, or of the role."""
        steps, guidance = self.backbone.defaults(role)
        own = (self.method.defaults or {}) if role == self.method.role else {}
        chosen_steps = request.steps if request.steps is not None else int(own.get("steps", steps))
        # A role whose default is 1 was trained without guidance; a method's value is for roles with guidance.
        preferred = own.get("guidance", guidance) if guidance > 1 else guidance
        if request.guidance is None:
            return chosen_steps, preferred
        if guidance <= 1 and request.guidance != preferred:
            notes.tell(
                f"{self.backbone.name} was trained without guidance, so guidance={request.guidance:g} spoils "
                f"its pictures or does nothing, unless distill.guidance taught it; leave it out otherwise."
            )
        return chosen_steps, request.guidance


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoiseState:
    """The state of a batch between noise and answer.

    Attributes:
        x_BLC: packed latents.
        step: number of Euler steps taken.
        before_BLC: `x_BLC` one step earlier, for previews; None before the first step.
    """

    x_BLC: Tensor
    step: int = 0
    before_BLC: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedBatch:
    """A batch that is ready to be denoised.

    Attributes:
        pipeline: the method on its backbone.
        batch: requests of one group.
        inputs: the requests' tensors.
        plan: canvas, conditioning, role.
        start: the noise.
        times: times of the schedule, (steps + 1,), from 1 down to 0.
        guidance: distilled guidance.
        velocity: the function that Euler integrates.
    """

    pipeline: Pipeline
    batch: Sequence[PreparedRequest]
    inputs: EditInputs
    plan: Plan
    start: DenoiseState
    times: Tensor
    guidance: float
    velocity: flow.Velocity
