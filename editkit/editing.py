"""One edit, top to bottom: tensors, plan, noise, schedule, Euler, decode, restore, paste, result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from editkit import canvas, flow, images, recipe, registry
from editkit.errors import EditkitError
from editkit.method import Method, Sampler
from editkit.types import EditInputs, EditRequest, EditResult, Plan

MAX_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A checked request with its pictures as tensors 1CHW in [0, 1]."""

    request: EditRequest
    source: images.Picture | None
    source_1CHW: Tensor | None
    mask_11HW: Tensor | None
    references: tuple[Tensor, ...]
    notes: tuple[str, ...]

    @property
    def group(self) -> tuple[Any, ...]:
        """What requests must share to run as one batch."""
        if self.request.search is not None:
            return (id(self),)
        tensors = (self.source_1CHW, self.mask_11HW, *self.references)
        shapes = tuple(None if tensor is None else tuple(tensor.shape) for tensor in tensors)
        request = self.request
        asked = request.method, request.task, request.steps, request.guidance, request.size
        return *asked, shapes, request.negative is None


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


def prepare(request: EditRequest) -> Prepared:
    """Check a request and read its pictures.

    Raises:
        EditkitError: for anything that cannot be edited, in one sentence.
    """
    _check(request)
    source = images.load(request.image) if request.image is not None else None
    if request.mask is not None and source is None:
        raise EditkitError("A mask needs an image to lie on; give one, or leave the mask out.")
    mask = None
    if request.mask is not None and source is not None:
        mask = torch.from_numpy(images.load_mask(request.mask, source.size))[None, None]
    references = [images.load(reference, "reference") for reference in request.references]
    notes = (
        *(source.notes if source else ()),
        *(note for reference in references for note in reference.notes),
    )
    return Prepared(
        request=request,
        source=source,
        source_1CHW=images.tensor(source) if source else None,
        mask_11HW=mask,
        references=tuple(images.tensor(reference) for reference in references),
        notes=notes,
    )


def _check(request: EditRequest) -> None:
    if not isinstance(request.instruction, str) or not request.instruction.strip():
        raise EditkitError(
            "The instruction is empty; say in words what to change, such as 'make the red circle blue'."
        )
    for name, text in (("instruction", request.instruction), ("negative prompt", request.negative)):
        if text is not None and (not isinstance(text, str) or text != text.encode(errors="ignore").decode()):
            raise EditkitError(f"The {name} is not Unicode text; give it in plain words.")
    tasks = [task.name for task in registry.method(request.method).tasks]
    if request.task is not None and request.task not in tasks:
        problem = registry.unknown(f"task of {request.method} called", request.task, tasks)
        raise EditkitError(problem if tasks else f"{request.method} has no tasks; leave the task out.")
    if not isinstance(request.references, (tuple, list)):
        raise EditkitError(f"references={request.references} is not allowed; give a list of pictures.")
    steps, guidance, seed = request.steps, request.guidance, request.seed
    if steps is not None and not (isinstance(steps, int) and 1 <= steps <= MAX_STEPS):
        raise EditkitError(f"steps={steps} is not allowed; give a whole number from 1 to {MAX_STEPS}.")
    if guidance is not None and not (isinstance(guidance, (int, float)) and 0 <= guidance < math.inf):
        raise EditkitError(f"guidance={guidance} is not allowed; give a finite number that is not negative.")
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise EditkitError(f"seed={seed} is not allowed; give a whole number from 0 to 2^63 - 1.")
    size = request.size
    if size is not None and not (
        isinstance(size, (tuple, list))
        and len(size) == 2
        and all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise EditkitError(f"size={size} is not allowed; give a positive width and height, such as 1024x768.")
    if size is not None and max(size) > canvas.MAX_SIDE:
        raise EditkitError(f"size={size} is too large; each side may have up to {canvas.MAX_SIDE} pixels.")


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

    backbone: Any
    method: Method
    options: Any
    batch: Sequence[Prepared]
    plan: Plan
    sampler: Sampler
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

    def preview(self) -> Tensor:
        """The picture that the last step points at, pixels BCHW."""
        assert self.before_BLC is not None, "a preview needs a step"
        now, then = self.times[self.place - 1].item(), self.times[self.place].item()
        return self.pixels(flow.endpoint(self.before_BLC, self.x_BLC, now, then))

    def previews(self) -> list[Image.Image]:
        """`preview` as pictures."""
        pairs = zip(self.batch, self.preview(), strict=True)
        return [images.picture(pixels, item.source.alpha if item.source else None) for item, pixels in pairs]

    def pixels(self, x0_BLC: Tensor) -> Tensor:
        """Latents as pictures of the input's size, with what must be kept pasted back."""
        tokens_BLC, planned = canvas.decoded(x0_BLC, self.plan.canvas)
        decoded_BCHW = self.backbone.decode(tokens_BLC, planned.width, planned.height)
        pixels_BCHW = canvas.restore(decoded_BCHW, planned).cpu()
        if not (torch.isfinite(x0_BLC).all() and torch.isfinite(pixels_BCHW).all()):
            raise EditkitError(
                "The result is not finite; use dtype float32 or bfloat16, and weights that are not damaged."
            )
        kept = [_kept(item, pixels[None]) for item, pixels in zip(self.batch, pixels_BCHW, strict=True)]
        self.clock.lap("decode")
        return torch.cat(kept)

    def results(self) -> list[EditResult]:
        """What became of each request, with its recipe."""
        pixels_BCHW = self.pixels(self.x_BLC)
        timings = {stage: seconds / len(self.batch) for stage, seconds in self.clock.laps.items()}
        shared = {
            "method": self.method.name,
            "options": asdict(self.options),
            "backbone": self.backbone.name,
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
                image=images.picture(pixels, item.source.alpha if item.source else None),
                method=self.method.name,
                seed=item.request.seed,
                recipe=recipe.make(**_asked(item), **shared),
                timings=timings,
                notes=(*item.notes, *self.backbone.remarks(item.request.instruction)),
            )
            for item, pixels in zip(self.batch, pixels_BCHW, strict=True)
        ]


@torch.no_grad()
def run(
    backbone: Any, method: Method, options: Any, batch: Sequence[Prepared], watch: Watch | None = None
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
    backbone: Any, method: Method, options: Any, batch: Sequence[Prepared], watch: Watch | None = None
) -> Run:
    """Plan a batch and draw its noise; it has not taken a step yet."""
    request, clock = batch[0].request, Stopwatch()
    conditioner, sampler = method.conditioner(backbone, options), method.sampler(backbone, options)
    backbone.settle(conditioner.role or method.role)
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


def collate(batch: Sequence[Prepared]) -> EditInputs:
    """Prepared requests of one group as one set of inputs."""
    first = batch[0]

    def stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(present) if present else None

    return EditInputs(
        prompts=tuple(item.request.instruction for item in batch),
        task=first.request.task,
        source_BCHW=stack([item.source_1CHW for item in batch]),
        mask_B1HW=stack([item.mask_11HW for item in batch]),
        references=tuple(
            torch.cat(pictures) for pictures in zip(*(item.references for item in batch), strict=True)
        ),
        negatives=None
        if first.request.negative is None
        else tuple(item.request.negative or "" for item in batch),
        size=first.request.size,
    )


def defaults(backbone: Any, method: Method, role: str, request: EditRequest) -> tuple[int, float]:
    """Steps and guidance: asked for, else the method's on its own role, else the role's."""
    steps, guidance = backbone.defaults(role)
    own = (method.defaults or {}) if role == method.role else {}
    chosen_steps = request.steps if request.steps is not None else int(own.get("steps", steps))
    # A role whose default is 1 was trained without guidance; a method's number is for those with it.
    preferred = own.get("guidance", guidance) if guidance > 1 else guidance
    return chosen_steps, request.guidance if request.guidance is not None else preferred


def _kept(item: Prepared, edited_1CHW: Tensor) -> Tensor:
    """The edit with the source's own pixels outside the change, where that was asked for."""
    wanted = item.request.preserve if item.request.preserve is not None else item.mask_11HW is not None
    if not wanted or item.source_1CHW is None:
        return edited_1CHW
    mask_11HW = item.mask_11HW if item.mask_11HW is not None else canvas.change(item.source_1CHW, edited_1CHW)
    return canvas.paste(item.source_1CHW, edited_1CHW, mask_11HW)


def _asked(item: Prepared) -> dict[str, Any]:
    """The part of a recipe that the request decides."""
    request = item.request
    return {
        "instruction": request.instruction,
        "negative": request.negative,
        "task": request.task,
        "seed": request.seed,
        "size": list(request.size) if request.size else None,
        "preserve": request.preserve,
        "mask": item.mask_11HW is not None,
        "references": len(item.references),
        "source_sha256": recipe.pixels_sha256(item.source) if item.source else None,
    }
