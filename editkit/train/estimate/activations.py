"""Count the activations that autograd keeps, on the meta device."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editkit import adapters
from editkit.backbone import Transformer


class FusedAttention(torch.autograd.Function):
    """Attention as fused kernels do it: queries, keys, values and the result are kept, scores are not."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Shapes alone."""
        result = torch.empty_like(query)
        ctx.save_for_backward(
            query, key, value, result, query.new_empty(query.shape[:-1], dtype=torch.float32)
        )
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        """Shapes alone."""
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


@contextmanager
def counted_attention(fused: bool) -> Iterator[list[float]]:
    """Replace torch's attention, which keeps all scores on the meta device, and collect its operations."""
    operations: list[float] = []
    apply: Any = FusedAttention.apply
    original = F.scaled_dot_product_attention

    def shapes(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
        # Two products forward, and five of the same size backward.
        operations.append(7 * 2.0 * query.numel() * key.shape[-2])
        return cast(Tensor, apply(query, key, value))

    if fused:
        F.scaled_dot_product_attention = shapes  # type: ignore[assignment]
    try:
        yield operations
    finally:
        F.scaled_dot_product_attention = original


class SavedActivations:
    """Count the bytes that autograd keeps for the backward pass, in all and within each block."""

    def __init__(self, transformer: Transformer) -> None:
        self.weights = {p.untyped_storage()._cdata for p in transformer.parameters()}
        self.blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        self.adapted = adapters.layers(transformer)
        self.largest_block = max(sum(p.numel() for p in block.parameters()) for block in self.blocks)
        self.storages: dict[int, int] = {}
        self.adapter_copies = 0
        self.alive: list[Tensor] = []
        self.inside_blocks: list[int] = []
        self.block_inputs = self.products = 0

    def __enter__(self) -> "SavedActivations":
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._count_saved, lambda tensor: tensor)
        self.handles = [
            handle
            for block in self.blocks
            for handle in (
                block.register_forward_pre_hook(self._enter_block, with_kwargs=True),
                block.register_forward_hook(self._leave_block),
            )
        ]
        products = [
            (name, part)
            for block in self.blocks
            for name, part in block.named_modules()
            if isinstance(part, nn.Linear)
        ]
        self.handles += [
            part.register_forward_hook(partial(self._count_product, name)) for name, part in products
        ]
        self.handles += [layer.register_forward_pre_hook(self._count_copy) for layer in self.adapted]
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.__exit__(*error)
        for handle in self.handles:
            handle.remove()
        self.alive.clear()

    def _count_saved(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights and storage._cdata not in self.storages:
            self.storages[storage._cdata] = storage.nbytes()
            self.alive.append(tensor)  # or another tensor could get the same storage
        return tensor

    def _enter_block(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = [*arguments, *named.values()]
        self.block_inputs += sum(t.numel() * t.element_size() for t in given if isinstance(t, Tensor))
        self.inside_blocks.append(-self.total_bytes())

    def _count_copy(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        # peft hands an adapter its input in the adapter's own float32, of which autocast keeps a copy again.
        self.adapter_copies += arguments[0].numel() * arguments[0].element_size()

    def _count_product(self, name: str, _: nn.Module, given: Any, result: Tensor) -> None:
        # Attention's result is as large as its queries.
        queries = name.endswith(("to_q", "add_q_proj"))
        self.products += result.numel() * result.element_size() * (2 if queries else 1)

    def _leave_block(self, *_: object) -> None:
        self.inside_blocks[-1] += self.total_bytes()

    def total_bytes(self) -> int:
        """Return the bytes that are counted so far."""
        return sum(self.storages.values()) + self.adapter_copies

    def peak_bytes(self, checkpointing: bool, selective: bool = False) -> float:
        """Return all bytes, or with checkpointing those of block inputs and of the largest block's inside.

        `selective` checkpointing adds the results of all matrix products and of attention within blocks.
        """
        if not checkpointing:
            return float(self.total_bytes())
        outside = self.total_bytes() - sum(self.inside_blocks)
        return float(outside + self.block_inputs + max(self.inside_blocks) + selective * self.products)
