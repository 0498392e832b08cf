"""Within `FloatProducts`, bfloat16 is computed in float32 and rounded once, with autograd and without."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear, scaled_dot_product_attention

from tests.rehearsal.products import FloatProducts

A, B = (torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": lambda a, b: linear(a[0, 0], b[0, 0]),
    "matmul": lambda a, b: a @ b,
    "convolution": lambda a, b: conv2d(a, b[:, :, :3, :3]),
    "attention": lambda a, b: scaled_dot_product_attention(a, b, b),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", KINDS)
def test_products_are_rounded_once(kind: str, mode: Callable[[], AbstractContextManager[None]]) -> None:
    low = A.bfloat16(), B.bfloat16()
    wanted = KINDS[kind](*(each.float() for each in low)).bfloat16()
    with mode(), FloatProducts():
        assert torch.equal(KINDS[kind](*low), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_float32(kind: str) -> None:
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        given = [each.bfloat16().to(dtype).requires_grad_() for each in (A, B)]
        with FloatProducts():
            KINDS[kind](*given).float().square().mean().backward()
        found.append([each.grad.float() for each in given if each.grad is not None])
    for low, full in zip(*found, strict=True):
        assert float((low - full).norm() / full.norm()) < 0.02
