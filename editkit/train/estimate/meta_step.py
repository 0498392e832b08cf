"""Run one training step on the meta device, which computes nothing.

The step counts each tensor that autograd would keep for the backward pass, and each operation.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from editkit import config, registry
from editkit.backbone import Backbone, Transformer, provider
from editkit.config import Options
from editkit.data.buckets import SLOTS, encode_records, shape_key
from editkit.data.cropping import cropped
from editkit.data.datasets import CheckedDataset, dataset
from editkit.data.records import Record
from editkit.errors import EditkitError
from editkit.method import Conditioner, Trainer
from editkit.train.estimate.activations import SavedActivations, counted_attention
from editkit.train.optim import state_bytes
from editkit.train.settings import EditTrainConfig
from editkit.types import Plan

LOOKED_AT = 64
"""Number of records of each dataset that are searched for the largest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """The cost of one step on a single device.

    Attributes:
        trainable: number of trained parameters.
        frozen: number of the transformer's other parameters.
        optimizer: bytes of the optimizer's state.
        tokens: number of tokens of a sample, text included.
        flops: operations of one batch, both passes, and a teacher's passes; the prior's by its share of
            batches.
        saved: activations that autograd keeps.
        features: bytes of a teacher's features of one batch in float32.
    """

    trainable: int
    frozen: int
    optimizer: int
    tokens: int
    flops: float
    saved: SavedActivations
    features: float = 0.0

    @property
    def total(self) -> int:
        """Number of parameters of the transformer with its adapters."""
        return self.frozen + self.trainable


def step_cost(settings: EditTrainConfig) -> StepCost:
    """Measure the first step of a run.

    Raises:
        EditkitError: if settings contradict each other.
    """
    method = registry.method(settings.method)
    options = config.build(method.config, settings.options)
    backbone = provider().estimate(settings.backbone, settings.load)
    conditioner, trainer = method.conditioner(backbone, options), method.trainer(backbone, options)
    role = method.role_under(options)
    transformer = backbone.transformer(role)
    if settings.trainable == "full":
        transformer.requires_grad_(True)
    elif settings.trainable == "input":
        transformer.x_embedder.requires_grad_(True)
    elif settings.adapter:
        trainer.load(transformer, Path(settings.adapter))
    else:
        trainer.attach(transformer, settings.lora)
    planned, tensors, record = _largest(settings, backbone, conditioner, trainer, role)
    planned = conditioner.with_text(planned, [record.instruction] * settings.fit.batch)
    saved, flops = _step(backbone, transformer, planned, tensors["x0_BLC"], settings)
    slots = planned.conditioning
    assert slots.text is not None
    tokens = tensors["x0_BLC"].shape[1] + slots.text.tokens_BTD.shape[1]
    return StepCost(
        trainable=sum(p.numel() for p in transformer.parameters() if p.requires_grad),
        frozen=sum(p.numel() for p in transformer.parameters() if not p.requires_grad),
        optimizer=state_bytes(transformer.named_parameters(), settings.fit.optim),
        tokens=tokens + (0 if slots.sequence_BSC is None else slots.sequence_BSC.shape[1]),
        flops=flops,
        saved=saved,
        features=_feature_bytes(settings, transformer, tensors["x0_BLC"]),
    )


def _feature_bytes(settings: EditTrainConfig, transformer: Transformer, x0_BLC: Tensor) -> float:
    """Return the bytes of the features that a discriminator reads, in float32."""
    if settings.distill is None or settings.distill.ladd is None:
        return 0.0
    blocks = len([*transformer.transformer_blocks, *transformer.single_transformer_blocks])
    heads = len(settings.distill.ladd.chosen(blocks))
    about = transformer.config
    return float(
        heads * x0_BLC.shape[0] * x0_BLC.shape[1] * about.num_attention_heads * about.attention_head_dim * 4
    )


def _largest(
    settings: EditTrainConfig,
    backbone: Backbone,
    conditioner: Conditioner[Options],
    trainer: Trainer[Options],
    role: str,
) -> tuple[Plan, dict[str, Tensor], Record]:
    """Encode a batch of the record with the most tokens among the first records of all datasets."""
    shapes: dict[tuple[Any, ...], Record] = {}
    for data in (settings.data, *(mixed.data for mixed in settings.mixture.values())):
        records = CheckedDataset(cropped(dataset(data), data, backbone.sizes(role)))
        for place in range(min(LOOKED_AT, len(records))):
            record = records[place]
            if isinstance(record, Record):
                shapes.setdefault(shape_key(record), record)
    if not shapes:
        raise EditkitError("None of the first records can be read; see data check.")

    def tokens(record: Record) -> int:
        planned, tensors = encode_records([record], backbone, conditioner, trainer)
        beside_BSC = planned.conditioning.sequence_BSC
        return tensors["x0_BLC"].shape[1] + (0 if beside_BSC is None else beside_BSC.shape[1])

    found = list(shapes.values())
    record = max(found, key=tokens) if len(found) > 1 else found[0]
    return *encode_records([record] * settings.fit.batch, backbone, conditioner, trainer), record


def _step(
    backbone: Backbone, transformer: Transformer, planned: Plan, x0_BLC: Tensor, settings: EditTrainConfig
) -> tuple[SavedActivations, float]:
    """Run forward and backward; return the saved activations and the number of operations."""
    # Autocast does not reach the meta device; nearly everything that it keeps is in bf16.
    dtype = torch.bfloat16 if settings.fit.precision == "bf16" else torch.float32
    transformer.to(dtype)
    x0_BLC = x0_BLC.to(dtype)
    fused = settings.load.get("attention") not in ("_native_math", "plain")
    with (
        SavedActivations(transformer) as saved,
        FlopCounterMode(display=False) as counter,
        counted_attention(fused) as attended,
    ):
        predicted = backbone.velocity(x0_BLC, x0_BLC.new_ones(len(x0_BLC)), _lowered(planned, dtype), 1.0)
        forward = counter.get_total_flops() + 2 / 7 * sum(attended)  # which counts both ways at once
        torch.autograd.backward(predicted.float().pow(2).mean())
    return saved, counter.get_total_flops() + sum(attended) + settings.teacher_passes * forward


def _lowered(planned: Plan, dtype: torch.dtype) -> Plan:
    """Convert a plan's tensors, except position ids, to this dtype."""
    slots = planned.conditioning
    assert slots.text is not None
    text = replace(
        slots.text, tokens_BTD=slots.text.tokens_BTD.to(dtype), pooled_BD=slots.text.pooled_BD.to(dtype)
    )
    filled = {name: tensor.to(dtype) for name in SLOTS if (tensor := getattr(slots, name)) is not None}
    return replace(planned, conditioning=replace(slots, text=text, **filled))
