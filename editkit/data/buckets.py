"""Encode records as plans without text and as target latents, and group them in buckets."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from editkit.backbone import Backbone
from editkit.config import Options
from editkit.data.records import MixedConfig, Record
from editkit.data.samples import Samples, Wordings
from editkit.inference.inputs import collate
from editkit.method import Conditioner, Trainer
from editkit.types import EditInputs, Plan

SLOTS = ("channel_BLC", "sequence_BSC")


@dataclass(kw_only=True)
class Bucket:
    """Samples that share a canvas and slots; `mixed` says how the run mixes in the dataset."""

    plan: Plan
    samples: Samples
    mixed: MixedConfig = field(default_factory=MixedConfig)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def joins_sequence(self) -> bool:
        """Whether the samples have tokens that join the sequence."""
        return self.plan.conditioning.sequence_ids_S3 is not None

    def take(
        self, places: Sequence[int], seeds: Sequence[int], device: torch.device
    ) -> tuple[Plan, dict[str, Tensor], list[Wordings]]:
        """Return the plan, tensors and instructions of some samples, tensors on the device that trains.

        Args:
            places: the samples.
            seeds: seed of each sample, for latents that are drawn anew.
            device: the device.
        """
        found, wordings = self.samples.read(places, seeds)
        chosen = {name: tensor.to(device).float() for name, tensor in found.items()}
        slots: dict[str, Any] = {name: chosen[name] for name in SLOTS if name in chosen}
        return replace(self.plan, conditioning=replace(self.plan.conditioning, **slots)), chosen, wordings


def inputs_of(record: Record) -> EditInputs:
    """Turn a record into inputs of batch size 1."""
    height, width = record.answer.shape[:2]
    return EditInputs(
        prompts=(record.instruction,),
        task=record.task,
        size=None if record.source is not None else (width, height),
        source_BCHW=None if record.source is None else tensor_of(record.source),
        mask_B1HW=None if record.mask is None else tensor_of(record.mask[..., None]),
        references=tuple(map(tensor_of, record.references)),
    )


def tensor_of(picture_HWC: NDArray[np.uint8]) -> Tensor:
    """Turn a uint8 picture into a tensor 1CHW in [0, 1]."""
    return torch.from_numpy(picture_HWC)[None].permute(0, 3, 1, 2).float() / 255


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
    inputs = collate([inputs_of(record) for record in records])
    answer_BCHW = torch.cat([tensor_of(record.answer) for record in records])
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
