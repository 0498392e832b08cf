"""Plain attention, which training on CPUs uses."""

from __future__ import annotations

import pytest
import torch

from backbones.attention import plain_attention


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_is_attention(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 9, 3, 8, generator=generator, requires_grad=True) for _ in range(3))
    mask = torch.rand(2, 1, 1, 9, generator=generator) > 0.3 if masked else None
    ours = plain_attention(query, key, value, attn_mask=mask)
    swapped = (each.transpose(1, 2) for each in (query, key, value))
    theirs = torch.nn.functional.scaled_dot_product_attention(*swapped, attn_mask=mask).transpose(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-6)
    gradients = [torch.autograd.grad(out.square().sum(), (query, key, value)) for out in (ours, theirs)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_compiled_graphs_leave_it_out() -> None:
    """Within one, products in bf16 can have wrong gradients on a CPU with AMX."""

    def forward(x_BLHD: torch.Tensor) -> torch.Tensor:
        return plain_attention(x_BLHD.sin(), x_BLHD, x_BLHD).cos()

    found = torch._dynamo.explain(forward)(torch.randn(2, 9, 3, 8))
    assert found.graph_count == 2
    assert not any("bmm" in str(op) or "matmul" in str(op) for ops in found.ops_per_graph for op in ops)
