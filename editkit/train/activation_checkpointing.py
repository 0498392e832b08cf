"""Activation checkpointing of transformer blocks: of all activations, or of the cheap ones only."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from editkit.backbone import Transformer

aten: Any = torch.ops.aten
EXPENSIVE = frozenset(
    (
        aten.mm.default,
        aten.addmm.default,
        aten.bmm.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
    )
)
"""Operations whose results selective checkpointing keeps: matrix products and attention."""


def switch_on(transformer: Transformer, selective: bool) -> None:
    """Checkpoint a diffusers transformer's blocks; `selective` keeps the results of expensive operations."""
    transformer.enable_gradient_checkpointing(_selective if selective else None)


def _selective(block: Callable[..., Any], *inputs: Any) -> Any:
    contexts = partial(create_selective_checkpoint_contexts, _policy)
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)


def _policy(_: Any, operation: Any, *arguments: Any, **named: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in EXPENSIVE else CheckpointPolicy.PREFER_RECOMPUTE
