"""Check requests, read their pictures as tensors, and collate them into batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editkit import registry
from editkit.errors import EditkitError, unknown
from editkit.imaging import canvas, images, masks
from editkit.inference import provenance, speed
from editkit.types import EditInputs, EditRequest

MAX_STEPS = 1000
"""Largest number of Euler steps of a request."""


@dataclass(frozen=True, kw_only=True)
class PreparedRequest:
    """A checked request with its pictures as tensors 1CHW in [0, 1]."""

    request: EditRequest
    source: images.Picture | None
    source_1CHW: Tensor | None
    mask_11HW: Tensor | None
    references: tuple[Tensor, ...]
    reference_digests: tuple[str, ...]
    notes: tuple[str, ...]
    told: bool = False
    """Whether the notes on its pictures were told before the edit, and so are not its result's."""

    @property
    def group(self) -> tuple[Any, ...]:
        """Key that requests must share to run as one batch."""
        if self.request.search is not None:
            return (id(self),)
        tensors = (self.source_1CHW, self.mask_11HW, *self.references)
        shapes = tuple(None if tensor is None else tuple(tensor.shape) for tensor in tensors)
        request = self.request
        settings = request.method, request.task, request.steps, request.guidance, request.size, request.speed
        return *settings, shapes, request.negative is None

    @property
    def inputs(self) -> EditInputs:
        """The request as tensors of batch size 1."""
        request = self.request
        return EditInputs(
            prompts=(request.instruction,),
            task=request.task,
            source_BCHW=self.source_1CHW,
            mask_B1HW=self.mask_11HW,
            references=self.references,
            negatives=None if request.negative is None else (request.negative,),
            size=request.size,
        )

    @property
    def preserves(self) -> bool:
        """Whether pixels outside the change stay identical to the source's."""
        if self.source_1CHW is None:
            return False
        preserve = self.request.preserve
        return preserve if preserve is not None else self.mask_11HW is not None

    def recipe_settings(self) -> dict[str, Any]:
        """Return the part of a recipe that the request decides."""
        request = self.request
        return {
            **provenance.request_settings(request),
            "mask": self.mask_11HW is not None,
            "references": len(self.references),
            "source_sha256": provenance.pixels_sha256(self.source) if self.source else None,
            "mask_sha256": None if self.mask_11HW is None else provenance.mask_sha256(self.mask_11HW.numpy()),
            "references_sha256": list(self.reference_digests),
            "paths": {
                "image": _path(request.image),
                "mask": _path(request.mask),
                "references": [_path(reference) for reference in request.references],
            },
        }


def prepare(request: EditRequest) -> PreparedRequest:
    """Check a request and read its pictures.

    Raises:
        EditkitError: for a value out of range or a picture that cannot be read.
    """
    _check(request)
    request = _plain(request)
    source = images.load_image(request.image) if request.image is not None else None
    if request.mask is not None and source is None:
        raise EditkitError("A mask needs an image to lie on; give one, or leave the mask out.")
    mask = None
    if request.mask is not None and source is not None:
        mask = masks.load_mask(request.mask, source.size)
    references = [images.load_image(reference, "reference") for reference in request.references]
    notes = (
        *(source.notes if source else ()),
        *(mask.notes if mask else ()),
        *(note for reference in references for note in reference.notes),
    )
    return PreparedRequest(
        request=request,
        source=source,
        source_1CHW=images.tensor(source) if source else None,
        mask_11HW=torch.from_numpy(mask.values_HW)[None, None] if mask else None,
        references=tuple(images.tensor(reference) for reference in references),
        reference_digests=tuple(provenance.pixels_sha256(reference) for reference in references),
        notes=notes,
    )


def collate(items: Sequence[EditInputs]) -> EditInputs:
    """Stack inputs of batch size 1 along the batch; they must share task, size, slots and shapes."""
    first = items[0]

    def stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(present) if present else None

    pictures = zip(*(item.references for item in items), strict=True)
    negatives = [negative for item in items for negative in item.negatives or ()]
    return EditInputs(
        prompts=tuple(prompt for item in items for prompt in item.prompts),
        task=first.task,
        source_BCHW=stack([item.source_BCHW for item in items]),
        mask_B1HW=stack([item.mask_B1HW for item in items]),
        references=tuple(torch.cat(tensors) for tensors in pictures),
        negatives=None if first.negatives is None else tuple(negatives),
        size=first.size,
    )


def check_instruction(instruction: str) -> None:
    """Check an instruction.

    Raises:
        EditkitError: where it is empty.
    """
    if not isinstance(instruction, str) or not instruction.strip():
        raise EditkitError(
            "The instruction is empty; say in words what to change, such as 'make the red circle blue'."
        )


def _check(request: EditRequest) -> None:
    """Check all fields of a request that are not pictures."""
    check_instruction(request.instruction)
    for name, text in (("instruction", request.instruction), ("negative prompt", request.negative)):
        if text is not None and (not isinstance(text, str) or text != text.encode(errors="ignore").decode()):
            raise EditkitError(f"The {name} is not Unicode text; give it in plain words.")
    method = registry.method(request.method)
    if request.negative is not None and not hasattr(method.config, "true_cfg"):
        raise EditkitError(f"{request.method} takes no negative prompt; leave it out.")
    tasks = [task.name for task in method.tasks]
    if request.task is not None and request.task not in tasks:
        problem = unknown(f"task of {request.method} called", request.task, tasks)
        raise EditkitError(problem if tasks else f"{request.method} has no tasks; leave the task out.")
    if not isinstance(request.references, (tuple, list)):
        raise EditkitError(f"references={request.references} is not allowed; give a list of pictures.")
    steps, guidance, seed = request.steps, request.guidance, request.seed
    if steps is not None and not (_whole(steps) and 1 <= steps <= MAX_STEPS):
        raise EditkitError(f"steps={steps} is not allowed; give a whole number from 1 to {MAX_STEPS}.")
    if guidance is not None and not (_number(guidance) and 0 <= guidance < math.inf):
        raise EditkitError(f"guidance={guidance} is not allowed; give a finite number that is not negative.")
    check_seed(seed)
    speed.check_speed(request.speed)
    size = request.size
    if size is not None and not (
        isinstance(size, (tuple, list)) and len(size) == 2 and all(_whole(side) and side > 0 for side in size)
    ):
        raise EditkitError(f"size={size} is not allowed; give a positive width and height, such as 1024x768.")
    if size is not None and max(size) > canvas.MAX_SIDE:
        raise EditkitError(f"size={size} is too large; each side may have up to {canvas.MAX_SIDE} pixels.")


def _path(picture: object) -> str | None:
    """Return a picture's path where it was given as one."""
    return str(picture) if isinstance(picture, (str, Path)) else None


def check_seed(seed: Any) -> None:
    """Check a seed.

    Raises:
        EditkitError: where it is not a whole number from 0 to 2^63 - 1.
    """
    if not _whole(seed) or not 0 <= seed < 2**63:
        raise EditkitError(f"seed={seed} is not allowed; give a whole number from 0 to 2^63 - 1.")


def _number(value: Any) -> bool:
    """Whether a value is a number of Python or NumPy; booleans are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    """Whether a value is an integer of Python or NumPy."""
    return _number(value) and isinstance(value, Integral)


def _plain(request: EditRequest) -> EditRequest:
    """Replace NumPy's numbers in a checked request by Python's, which recipes and generators need."""

    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else value

    size = None if request.size is None else (plain(request.size[0]), plain(request.size[1]))
    numbers = {name: plain(getattr(request, name)) for name in ("seed", "steps", "guidance")}
    return replace(request, size=size, **numbers)
