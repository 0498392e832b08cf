"""Encode records as plans without text and as target latents, and stack them in buckets."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from editkit.backbone import Backbone
from editkit.config import Options
from editkit.data.records import MixedConfig, Record
from editkit.method import Conditioner, Trainer
from editkit.types import EditInputs, Plan

SLOTS = ("channel_BLC", "sequence_BSC")


@dataclass(kw_only=True)
class Bucket:
    """Samples that share a canvas and slots, stacked; `mixed` says how the run mixes in the dataset."""

    plan: Plan
    tensors: dict[str, Tensor]
    instructions: list[str]
    mixed: MixedConfig = field(default_factory=MixedConfig)

    def take(self, places: Sequence[int], device: torch.device) -> tuple[Plan, dict[str, Tensor]]:
        """Return the plan and tensors of some samples, on the device that trains."""
        chosen = {name: tensor[list(places)].to(device).float() for name, tensor in self.tensors.items()}
        slots: dict[str, Any] = {name: chosen[name] for name in SLOTS if name in chosen}
        return replace(self.plan, conditioning=replace(self.plan.conditioning, **slots)), chosen


def collate(records: Sequence[Record]) -> tuple[EditInputs, Tensor]:
    """Stack records of one shape into inputs and answers, BCHW in [0, 1]."""

    def stack(pictures: Sequence[Any]) -> Tensor:
        return torch.stack([torch.from_numpy(p) for p in pictures]).permute(0, 3, 1, 2).float() / 255

    first = records[0]
    height, width = first.answer.shape[:2]
    inputs = EditInputs(
        prompts=tuple(record.instruction for record in records),
        task=first.task,
        size=None if first.source is not None else (width, height),
        source_BCHW=stack([r.source for r in records]) if first.source is not None else None,
        mask_B1HW=stack([r.mask[..., None] for r in records if r.mask is not None])
        if first.mask is not None
        else None,
        references=tuple(stack(pictures) for pictures in zip(*(r.references for r in records), strict=True)),
    )
    return inputs, stack([record.answer for record in records])


def shape_key(record: Record) -> tuple[Any, ...]:
    """Return the task and shapes that records of one batch must share."""
    pictures = (record.source, record.mask, record.answer, *record.references)
    return record.task, *(None if picture is None else picture.shape for picture in pictures)


@torch.no_grad()
def encode_records(
    records: Sequence[Record],
    backbone: Backbone,
    conditioner: Conditioner[Options],
    trainer: Trainer[Options],
) -> tuple[Plan, dict[str, Tensor]]:
    """Encode records of one shape as a plan and a bucket's tensors: x0, filled slots, loss weights."""
    inputs, answer_BCHW = collate(records)
    plan = conditioner.plan_without_text(inputs)
    tensors = {"x0_BLC": conditioner.target_tokens(inputs, answer_BCHW)}
    tensors |= {name: slot for name in SLOTS if (slot := getattr(plan.conditioning, name)) is not None}
    weights_BL = trainer.weights(plan, inputs)
    return plan, tensors | ({"weights_BL": weights_BL} if weights_BL is not None else {})


def layout_key(plan: Plan) -> tuple[Any, ...]:
    """Return the layout that samples of one bucket must share, besides the shapes of their tensors."""
    ids = (plan.conditioning.ids_L3, plan.conditioning.sequence_ids_S3)
    places = tuple(None if each is None else tuple(each.flatten().tolist()) for each in ids)
    return plan.canvas.width, plan.canvas.height, plan.canvas.answer, places
