"""A layer with experts: its formula, its router, how it is evaluated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from methods.icedit.moe_handle import EVALUATIONS
from methods.icedit.moe_layer import MoELinear
from methods.icedit.moe_options import ROUTERS, MoEOptions
from tests.released_adapters import RANK


@pytest.fixture
def layer() -> MoELinear:
    torch.manual_seed(0)
    return fresh_layer(MoEOptions(rank=RANK, top_k=2))


def fresh_layer(options: MoEOptions) -> MoELinear:
    experts, rank = options.experts, options.rank
    tensors = torch.randn(experts, rank, 10), torch.randn(experts, 7, rank), torch.randn(experts, 10)
    return MoELinear(nn.Linear(10, 7), "icedit", *tensors, options).eval()


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_the_formula(router: str, top_k: int) -> None:
    """Token by token as the released code has it, or as the paper's equations 2 and 3 do."""
    torch.manual_seed(1)
    layer = fresh_layer(MoEOptions(rank=RANK, alpha=6.0, top_k=top_k, router=router))
    x = torch.randn(2, 5, 10)
    got = layer(x)
    for place in [(b, n) for b in range(2) for n in range(5)]:
        token = x[place]
        logits = layer.route_EI @ token
        best = logits.argsort(descending=True)[:top_k]
        weights = logits[best].softmax(0) if router == "released" else logits.softmax(0)[best]
        wanted = layer.base_layer(token)
        for weight, expert in zip(weights, best, strict=True):
            wanted = wanted + 6.0 / RANK * weight * (layer.up_EOr[expert] @ (layer.down_ErI[expert] @ token))
        assert torch.allclose(got[place], wanted, atol=1e-5)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("top_k", [1, 3])
def test_dense_and_sparse_agree(router: str, top_k: int) -> None:
    torch.manual_seed(2)
    layer = fresh_layer(MoEOptions(rank=RANK, top_k=top_k, router=router))
    x = torch.randn(3, 6, 10)
    dense = layer(x)
    layer.evaluation = "sparse"
    assert torch.allclose(layer(x), dense, atol=1e-5)
    gradients = []
    for layer.evaluation in EVALUATIONS:
        layer.zero_grad()
        layer(x).square().sum().backward()
        gradients.append([layer.down_ErI.grad, layer.up_EOr.grad, layer.route_EI.grad])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-3)


def test_only_the_papers_router_learns() -> None:
    for router in ROUTERS:
        layer = fresh_layer(MoEOptions(rank=RANK, router=router))
        layer(torch.randn(4, 10)).square().sum().backward()
        assert (float(layer.route_EI.grad.abs().sum()) > 0) == (router == "paper")


def test_balance_is_least_where_experts_share_alike(layer: MoELinear) -> None:
    uneven = fresh_layer(MoEOptions(rank=RANK, balance=0.1)).train()
    x = torch.randn(500, 10)
    uneven(x)
    some = uneven.balance.detach()
    uneven.route_EI.data[0] += 5 * x.mean(0) + 10
    uneven(x.abs())
    assert uneven.balance.detach() > some > 0.9
    layer.train()(x)
    assert layer.balance is None


def test_noise_is_for_training_alone() -> None:
    layer = fresh_layer(MoEOptions(rank=RANK, noise=3.0))
    x = torch.randn(50, 10)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))
