"""Count the operations of a method's forward pass on shapes, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from editkit import config, registry
from editkit.backbone import provider
from editkit.data.buckets import encode_records
from editkit.data.records import Record
from editkit.errors import EditkitError
from editkit.evaluation.settings import Variant
from editkit.train.estimate.activations import counted_attention
from editkit.types import Plan

Shapes: TypeAlias = tuple[object, ...]
ONE_WAY = 2 / 7
"""Share of the forward pass in what `counted_attention` counts, which is both ways."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardCost:
    """One forward pass of one picture.

    Attributes:
        flops: operations of the transformer, adapters left out.
        steps: forward passes of an edit by default.
    """

    flops: float
    steps: int


class ForwardCosts:
    """Forward passes by variant and picture size, each counted once.

    Args:
        backbone: its name.
        loading: the backbone's options.
    """

    def __init__(self, backbone: str, loading: Mapping[str, Any]) -> None:
        self._known: dict[tuple[str, tuple[int, int], int], ForwardCost | None] = {}
        self._counted: dict[Shapes, float] = {}
        self._backbone = provider().estimate(backbone, loading)

    def forward(self, variant: Variant, size: tuple[int, int], references: int = 0) -> ForwardCost | None:
        """The cost for a picture of (width, height), references as large; None where it cannot be counted."""
        if not variant.plain:
            return None
        key = (repr(variant), size, references)
        if key not in self._known:
            try:
                self._known[key] = self._cost(variant, size, references)
            except EditkitError:
                self._known[key] = None
        return self._known[key]

    @torch.no_grad()
    def _cost(self, variant: Variant, size: tuple[int, int], references: int) -> ForwardCost:
        record, backbone = registry.method(variant.method), self._backbone
        options = config.build(record.config, variant.options)
        backbone.transformer(record.role_under(options))
        conditioner, trainer = record.conditioner(backbone, options), record.trainer(backbone, options)
        blank = np.zeros((size[1], size[0], 3), np.uint8)
        asked = Record(answer=blank, source=blank, references=(blank,) * references, instruction="edit")
        planned, tensors = encode_records([asked], backbone, conditioner, trainer)
        planned = conditioner.with_text(planned, [asked.instruction])
        x_BLC = tensors["x0_BLC"]
        shapes = _shapes(x_BLC, planned)
        if shapes not in self._counted:
            with FlopCounterMode(display=False) as counter, counted_attention(True) as attended:
                backbone.velocity(x_BLC, 1.0, planned, 1.0)
            self._counted[shapes] = counter.get_total_flops() + ONE_WAY * sum(attended)
        steps, _ = backbone.defaults(planned.role)
        own = (record.defaults or {}) if planned.role == record.role else {}
        return ForwardCost(flops=self._counted[shapes], steps=int(own.get("steps", steps)))


def _shapes(x_BLC: Tensor, planned: Plan) -> Shapes:
    """Return what operations depend on: the role, and the shape of all that the transformer is given."""
    slots = planned.conditioning
    given = {name: getattr(slots, name) for name in ("channel_BLC", "sequence_BSC", "valid_BN", "given_L")}
    if slots.text is not None:
        given["text"] = slots.text.tokens_BTD
    shapes = {name: None if tensor is None else tuple(tensor.shape) for name, tensor in given.items()}
    return (planned.role, slots.context_apart, tuple(x_BLC.shape), tuple(shapes.items()))
