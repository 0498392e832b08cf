"""Estimate the memory and time of an edit by each method, from shapes alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from editkit import config, registry
from editkit.backbone import Backbone, MemoryFit, provider
from editkit.config import Options
from editkit.gpus import PlannedDevice
from editkit.inference.inputs import collate, prepare
from editkit.inference.planned_batch import Pipeline
from editkit.method import Method
from editkit.train.estimate.plan import UTILIZATION
from editkit.types import EditRequest

BACKBONE = "flux1-dev"
"""Family of the estimates; it has a role for every method."""
SIDE = 1024
"""Width and height of the picture, in pixels."""
TRANSFER = 10e9
"""Bytes per second from unpinned main memory to a GPU; an assumption, not a measurement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EditEstimate:
    """The cost of one edit of a square picture of `SIDE` pixels.

    Attributes:
        method: name of the method.
        width: width of the canvas in pixels.
        height: height of the canvas in pixels.
        tokens: number of tokens in one call of the transformer, text included.
        steps: number of steps, the method's default.
        flops: floating-point operations of one step.
        preset: value of the loading option low_memory; empty where none is needed, None where none helps.
        memory: largest number of bytes on the device at once, activations included.
        seconds: time of all steps, with the copies of weights to the device; None where the device's speed
            is unknown or the method does not fit.
    """

    method: str
    width: int
    height: int
    tokens: int
    steps: int
    flops: float
    preset: str | None
    memory: float
    seconds: float | None


def estimate(
    device: PlannedDevice, methods: Sequence[str], loading: Mapping[str, Any] | None = None
) -> Iterator[EditEstimate]:
    """Estimate an edit by each of these methods on one device.

    Args:
        device: the device on which the edit runs.
        methods: names of the methods.
        loading: loading options: `quantization`, and weight files; all other models are in bfloat16.

    Raises:
        EditkitError: where a method is unknown, or an option or a file is refused.
    """
    inventory, backbone = provider().inventory, provider().estimate(BACKBONE, {})
    found = inventory.memory_fits(device.capacity, loading or {})
    fits = {each.role: each for each in found if each.family == BACKBONE}
    for name in methods:
        method = registry.method(name)
        yield _estimated(backbone, method, config.build(method.config, {}), fits, device, inventory.ROOM)


def _estimated(
    backbone: Backbone,
    method: Method[Options],
    options: Options,
    fits: Mapping[str, MemoryFit],
    device: PlannedDevice,
    room: float,
) -> EditEstimate:
    """Estimate an edit by one method; `fits` is by role, `room` is the bytes needed besides weights."""
    pipeline = Pipeline(backbone, method, options)
    backbone.transformer(method.role_under(options))  # the text is shaped by its config
    request = EditRequest(
        image=Image.new("RGB", (SIDE, SIDE), "gray"), instruction="make it red", method=method.name
    )
    plan = pipeline.conditioner.plan(collate([prepare(request).inputs]))
    steps, guidance = pipeline.defaults(plan.role, request)
    slots, fit = plan.conditioning, fits[plan.role]
    x_BLC = torch.empty(1, plan.canvas.width * plan.canvas.height // 256, 64, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.velocity(x_BLC, 1.0, plan, guidance)
    flops = float(counter.get_total_flops())
    beside = 0 if slots.sequence_BSC is None else slots.sequence_BSC.shape[1]
    assert slots.text is not None
    return EditEstimate(
        method=method.name,
        width=plan.canvas.width,
        height=plan.canvas.height,
        tokens=x_BLC.shape[1] + beside + slots.text.tokens_BTD.shape[1],
        steps=steps,
        flops=flops,
        preset=fit.preset,
        memory=fit.peak + room,
        seconds=_seconds(device, fit, flops, steps),
    )


def _seconds(device: PlannedDevice, fit: MemoryFit, flops: float, steps: int) -> float | None:
    """Return the time of all steps; None where it is unknown or the method does not fit."""
    if device.speed is None or fit.preset is None:
        return None
    # Where weights visit the device group by group, the next group is copied while one computes.
    return steps * max(flops / (device.speed * UTILIZATION), fit.travels / TRANSFER)
