"""One edit, top to bottom: tensors, plan, noise, schedule, Euler, decode, restore, paste, result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from editkit import flow
from editkit.backbone import Backbone
from editkit.config import Options
from editkit.errors import EditkitError
from editkit.imaging import canvas, images
from editkit.inference import postprocess, provenance
from editkit.inference.inputs import Prepared, collate
from editkit.inference.postprocess import Finished
from editkit.method import Method, Sampler
from editkit.types import EditRequest, EditResult, Plan


@dataclass(kw_only=True)
class Stopwatch:
    """Seconds by stage."""

    laps: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under a stage."""
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a watcher is told after each Euler step.

    Attributes:
        step: how many are done.
        steps: how many there are, up to the end or up to a seed search's previews.
        seeds: of the pictures that are being made.
        preview: makes the pictures that the last step points at, in the order of the seeds.
    """

    step: int
    steps: int
    seeds: tuple[int, ...]
    preview: Callable[[], list[Image.Image]]


Watch = Callable[[Progress], None]
"""Called after each step; what it raises ends the edit there."""


@dataclass(kw_only=True)
class Run:
    """One batch on its way through the schedule.

    Attributes:
        x_BLC: where it stands.
        place: how many steps it has taken.
        before_BLC: where it stood a step earlier.
        watch: told of each step.
    """

    backbone: Backbone
    method: Method[Options]
    options: Options
    batch: Sequence[Prepared]
    plan: Plan
    sampler: Sampler[Options]
    times: Tensor
    guidance: float
    x_BLC: Tensor
    clock: Stopwatch
    place: int = 0
    before_BLC: Tensor | None = None
    watch: Watch | None = None

    def walk(self, until: int | None = None) -> None:
        """Euler up to a place of the schedule, or to its end."""
        last = len(self.times) - 1 if until is None else until
        span = self.times[self.place : last + 1]
        for step_BLC in self.sampler.walk(self.plan, self.x_BLC, span, self.guidance):
            self.before_BLC, self.x_BLC = self.x_BLC, step_BLC
            self.place += 1
            if self.watch:
                seeds = tuple(item.request.seed for item in self.batch)
                self.watch(Progress(step=self.place, steps=last, seeds=seeds, preview=self.previews))
        self.clock.lap("sample")

    def previews(self) -> list[Image.Image]:
        """The pictures that the last step points at."""
        assert self.before_BLC is not None, "a preview needs a step"
        now, then = self.times[self.place - 1].item(), self.times[self.place].item()
        finished = self.finished(flow.endpoint(self.before_BLC, self.x_BLC, now, then))
        return [_picture(item, each) for item, each in zip(self.batch, finished, strict=True)]

    def finished(self, x0_BLC: Tensor) -> list[Finished]:
        """Latents as pictures of the input's size, with what must be kept pasted back."""
        tokens_BLC, planned = canvas.decoded(x0_BLC, self.plan.canvas, self.backbone.panels_alone)
        decoded_BCHW = self.backbone.decode(tokens_BLC, planned.width, planned.height)
        pixels_BCHW = canvas.restore(decoded_BCHW, planned).cpu()
        if not (torch.isfinite(x0_BLC).all() and torch.isfinite(pixels_BCHW).all()):
            raise EditkitError(
                "The result is not finite; use dtype float32 or bfloat16, and weights that are not damaged."
            )
        suspects: Sequence[Tensor | None] = [None] * len(self.batch)
        inputs = collate(self.batch)
        if inputs.source_BCHW is not None and inputs.mask_B1HW is None:
            source_BLC = self.backbone.encode(canvas.place(inputs.source_BCHW, self.plan.canvas))
            answer_BLC = canvas.panel(x0_BLC, self.plan.canvas)
            suspects = list(torch.split(postprocess.suspects(source_BLC, answer_BLC, self.plan.canvas), 1))
        each = zip(self.batch, torch.split(pixels_BCHW, 1), suspects, strict=True)
        finished = [postprocess.finish(*parts) for parts in each]
        self.clock.lap("decode")
        return finished

    def results(self) -> list[EditResult]:
        """What became of each request, with its recipe."""
        finished = self.finished(self.x_BLC)
        timings = {stage: seconds / len(self.batch) for stage, seconds in self.clock.laps.items()}
        shared = {
            "method": self.method.name,
            "options": asdict(self.options),
            "backbone": self.backbone.name,
            "loading": self.backbone.loading(),
            "weights": self.backbone.fingerprints(self.plan.role),
            "canvas": [self.plan.canvas.width, self.plan.canvas.height],
            "tokens": self.x_BLC.shape[1],
            "steps": len(self.times) - 1,
            "guidance": self.guidance,
            "precision": str(self.backbone.dtype).removeprefix("torch."),
            "device": str(self.backbone.device),
        }
        return [
            EditResult(
                image=_picture(item, made),
                method=self.method.name,
                seed=item.request.seed,
                recipe=provenance.make(**item.asked(), **shared),
                timings=timings,
                notes=(*item.notes, *self.backbone.remarks(item.request.instruction), *made.notes),
                change=None if made.change_11HW is None else images.gray(made.change_11HW),
                alignment=made.alignment,
            )
            for item, made in zip(self.batch, finished, strict=True)
        ]


@torch.no_grad()
def run(
    backbone: Backbone,
    method: Method[Options],
    options: Options,
    batch: Sequence[Prepared],
    watch: Watch | None = None,
) -> list[EditResult]:
    """Edit one batch whose members share a group.

    Raises:
        EditkitError: where the network's result is not finite or memory runs out.
    """
    with enough_memory():
        running = begin(backbone, method, options, batch, watch)
        running.walk()
        return running.results()


def begin(
    backbone: Backbone,
    method: Method[Options],
    options: Options,
    batch: Sequence[Prepared],
    watch: Watch | None = None,
) -> Run:
    """Plan a batch and draw its noise; it has not taken a step yet."""
    request, clock = batch[0].request, Stopwatch()
    conditioner, sampler = method.conditioner(backbone, options), method.sampler(backbone, options)
    backbone.settle(method.role_under(options))
    # Fit the canvas, encode text and pixels, fill the slots.
    generators = tuple(torch.Generator().manual_seed(item.request.seed) for item in batch)
    plan = conditioner.plan(replace(collate(batch), generators=generators))
    clock.lap("plan")
    # From one CPU generator an image, so that a batch gives what single edits give.
    noise_BLC = backbone.noise(plan.canvas, generators)
    steps, guidance = defaults(backbone, method, plan.role, request)
    return Run(
        backbone=backbone,
        method=method,
        options=options,
        batch=batch,
        plan=plan,
        sampler=sampler,
        times=flow.schedule(steps, noise_BLC.shape[1]),
        guidance=guidance,
        x_BLC=noise_BLC,
        clock=clock,
        watch=watch,
    )


@contextmanager
def enough_memory() -> Iterator[None]:
    """Say in one sentence that there was too little.

    Raises:
        EditkitError: then.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has a class of its own for accelerators; on a CPU only the words tell.
        full = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
        if not full:
            raise
        raise EditkitError(
            "The device has too little memory for this edit; give a smaller size, or bfloat16."
        ) from error


def defaults(
    backbone: Backbone, method: Method[Options], role: str, request: EditRequest
) -> tuple[int, float]:
    """Steps and guidance: asked for, else the method's on its own role, else the role's."""
    steps, guidance = backbone.defaults(role)
    own = (method.defaults or {}) if role == method.role else {}
    chosen_steps = request.steps if request.steps is not None else int(own.get("steps", steps))
    # A role whose default is 1 was trained without guidance; a method's number is for those with it.
    preferred = own.get("guidance", guidance) if guidance > 1 else guidance
    return chosen_steps, request.guidance if request.guidance is not None else preferred


def _picture(item: Prepared, finished: Finished) -> Image.Image:
    return images.picture(finished.pixels_1CHW, item.source.alpha if item.source else None)
