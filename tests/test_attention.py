"""Plain attention, which training on CPUs uses."""

from __future__ import annotations

import pytest
import torch

from backbones.attention import plain


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_is_attention(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 9, 3, 8, generator=generator, requires_grad=True) for _ in range(3))
    mask = torch.rand(2, 1, 1, 9, generator=generator) > 0.3 if masked else None
    ours = plain(query, key, value, attn_mask=mask)
    swapped = (each.transpose(1, 2) for each in (query, key, value))
    theirs = torch.nn.functional.scaled_dot_product_attention(*swapped, attn_mask=mask).transpose(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-6)
    gradients = [torch.autograd.grad(out.square().sum(), (query, key, value)) for out in (ours, theirs)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_compiled_blocks_learn_what_eager_ones_do() -> None:
    """In bf16, in which a CPU's own products can go wrong within compiled graphs."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(32, 96)

    def forward(x_BLD: torch.Tensor) -> torch.Tensor:
        query, key, value = (each.unflatten(-1, (2, 16)) for each in layer(x_BLD).chunk(3, dim=-1))
        return plain(query, key, value).flatten(2)

    x_BLD, gradients = torch.randn(2, 24, 32), []
    for way in (forward, torch.compile(forward, backend="aot_eager")):
        with torch.autocast("cpu", torch.bfloat16):
            way(x_BLD).float().square().mean().backward()
        gradients.append(layer.weight.grad)
        layer.weight.grad = None
    assert torch.allclose(*gradients, atol=1e-3)
