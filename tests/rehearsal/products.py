"""Products of bfloat16 matrices with float32 sums, as a GPU makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution, aten.convolution_backward,
            aten.linear, aten.matmul, aten.conv2d}  # fmt: skip
"""The last three are not taken apart in inference mode."""
ATTENTION = {aten._scaled_dot_product_flash_attention_for_cpu, aten.scaled_dot_product_attention}
"""Computed likewise where there is no backward pass, which needs more than the rounded result."""


class FloatProducts(TorchDispatchMode):
    """Within, products and convolutions of bfloat16 are computed in float32, and rounded once.

    A CPU without bfloat16 units takes eight times as long for its own way.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        call: Callable[..., Any] = func
        given = kwargs or {}
        known = PRODUCTS if torch.is_grad_enabled() else PRODUCTS | ATTENTION
        if func.overloadpacket not in known or not _is_low(args[0]):
            return call(*args, **given)
        widened, named = tree_map_only(Tensor, Tensor.float, (args, given))
        return tree_map_only(Tensor, Tensor.bfloat16, call(*widened, **named))


def _is_low(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16
