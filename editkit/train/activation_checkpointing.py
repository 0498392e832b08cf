"""Activation checkpointing of transformer blocks: of all activations, or of the cheap ones only."""

from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from editkit.backbone import Transformer

aten: Any = torch.ops.aten
EXPENSIVE = frozenset(
    (
        aten.mm,
        aten.addmm,
        aten.bmm,
        aten.baddbmm,
        aten._scaled_dot_product_flash_attention,
        aten._scaled_dot_product_flash_attention_for_cpu,
        aten._scaled_dot_product_efficient_attention,
        aten._scaled_dot_product_cudnn_attention,
    )
)
"""Operations whose results selective checkpointing keeps, in all overloads: matrix products and attention."""

Kept = defaultdict[Any, deque[Any]]
"""Results by operation, in the order of the calls."""


def switch_on(transformer: Transformer, selective: bool) -> None:
    """Checkpoint a diffusers transformer's blocks; `selective` keeps the results of expensive operations."""
    transformer.enable_gradient_checkpointing(_selective if selective else None)


def expensive(operation: Any) -> bool:
    """Whether selective checkpointing keeps the results of a torch operation."""
    return getattr(operation, "overloadpacket", None) in EXPENSIVE


def _selective(block: Any, *inputs: Any) -> Any:
    compiled = getattr(block, "_compiled_call_impl", None) is not None
    contexts = _copying_contexts if compiled else partial(create_selective_checkpoint_contexts, _policy)
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)


def _policy(_: Any, operation: Any, *arguments: Any, **named: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if expensive(operation) else CheckpointPolicy.PREFER_RECOMPUTE


def _copying_contexts() -> tuple[TorchDispatchMode, TorchDispatchMode]:
    """Make the contexts of the forward pass and of its repetition for a compiled block.

    torch's own contexts keep a result itself, and give it back instead of the call. Compiled code writes its
    products into buffers (`mm.out`) that it uses again, and reads the buffers and not what the call returns.
    """
    kept: Kept = defaultdict(deque)
    return _Keep(kept), _Reuse(kept)


class _Mode(TorchDispatchMode):
    """A mode that sees the operations of compiled code, and lets it run compiled."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept = kept

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True


class _Keep(_Mode):
    """Keeps copies of the results of expensive operations."""

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if expensive(operation):
            self.kept[operation].append(tree_map_only(Tensor, torch.clone, result))
        return result


class _Reuse(_Mode):
    """Gives back the kept results instead of computing them again."""

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if not self.kept[operation]:  # not kept, or used by an earlier backward pass
            return operation(*args, **given)
        result = self.kept[operation].popleft()
        return given["out"].copy_(result) if "out" in given else result
