"""Experts in a transformer: on, off, scaled, saved, compiled and over few bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file
from torch import nn

from backbones.flux import Flux
from editkit import adapters
from methods.icedit import moe
from methods.icedit.moe_layer import MoELinear
from methods.icedit.moe_options import MoEOptions
from tests.random_weights import quantize, transformer_config
from tests.released_adapters import EXPERTS, FULL, RANK, released


@torch.no_grad()
def test_scale_switch_and_eject(transformer: FluxTransformer2DModel, file: Path, forward: Any) -> None:
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    base = forward(transformer)
    handle = moe.inject(transformer, file)
    whole = forward(transformer)
    assert float((whole - base).abs().max()) > 0.1
    handle.scale = 0.0
    assert torch.allclose(forward(transformer), base, atol=1e-6)
    handle.scale, handle.expert_scale = 1.0, 0.0
    plain = forward(transformer)
    assert float((plain - base).abs().max()) > 0.05
    assert float((plain - whole).abs().max()) > 0.05
    handle.expert_scale = 1.0
    assert torch.allclose(forward(transformer), whole, atol=1e-6)
    adapters.enable(transformer, [])
    assert torch.allclose(forward(transformer), base, atol=1e-6)
    adapters.enable(transformer, ["icedit"], [1.0])
    assert torch.allclose(forward(transformer), whole, atol=1e-6)
    handle.eject()
    after = transformer.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(forward(transformer), base)


@torch.no_grad()
def test_one_of_several_leaves_by_its_name(
    transformer: FluxTransformer2DModel, file: Path, forward: Any
) -> None:
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    for name in ("one", "two", "three"):
        moe.load_moe(transformer, file, name)
    adapters.enable(transformer, ["two"])
    whole = forward(transformer)
    for name in ("one", "three"):
        adapters.eject(transformer, name)
        adapters.enable(transformer, ["two"])
        assert torch.equal(forward(transformer), whole)
    assert {name for layer in adapters.layers(transformer) for name in layer.r} == {"two"}
    adapters.eject(transformer, "two")
    after = transformer.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@torch.no_grad()
def test_saved_and_loaded(transformer: FluxTransformer2DModel, tmp_path: Path, forward: Any) -> None:
    options = MoEOptions(rank=RANK, alpha=5.0, top_k=2, balance=0.1)
    handle = moe.attach(transformer, options)
    base = forward(transformer)
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.normal_(std=0.2)
    whole = forward(transformer)
    assert float((whole - base).abs().max()) > 0.1
    path = handle.save(tmp_path)
    handle.eject()
    again = moe.inject(transformer, path)
    assert next(iter(again.layers.values())).options == options
    assert torch.allclose(forward(transformer), whole, atol=1e-5)
    state = load_file(path)
    assert state.keys() == released(transformer_like(384), RANK, experts=EXPERTS).keys()


def transformer_like(in_channels: int) -> FluxTransformer2DModel:
    with torch.device("meta"):
        return FluxTransformer2DModel.from_config(transformer_config(in_channels))


def test_fresh_experts_change_nothing_and_are_all_that_trains(
    transformer: FluxTransformer2DModel, forward: Any
) -> None:
    with torch.no_grad():
        base = forward(transformer)
    handle = moe.attach(transformer, MoEOptions(rank=RANK))
    assert torch.allclose(forward(transformer), base, atol=1e-6)
    learning = {name for name, parameter in transformer.named_parameters() if parameter.requires_grad}
    assert learning == {
        name
        for name, _ in transformer.named_parameters()
        if name.endswith(("down_ErI", "up_EOr", "route_EI")) or ".lora_" in name
    }
    transformer.train().enable_gradient_checkpointing()
    with torch.autocast("cpu", torch.bfloat16):
        forward(transformer).square().mean().backward()
    assert all(parameter.grad is not None for parameter in handle.parameters())
    assert any(float(layer.up_EOr.grad.abs().sum()) > 0 for layer in handle.layers.values())


@torch.no_grad()
def test_bf16(transformer: FluxTransformer2DModel, file: Path, forward: Any) -> None:
    whole = None
    for dtype in (torch.float32, torch.bfloat16):
        handle = moe.inject(transformer.to(dtype), file)
        for layer in handle.layers.values():
            layer.to(dtype)
        got = forward(transformer).float()
        whole = got if whole is None else whole
        assert float((got - whole).abs().mean() / whole.abs().mean()) < 0.1
        handle.eject()


@torch.no_grad()
def test_shares(transformer: FluxTransformer2DModel, file: Path, forward: Any) -> None:
    handle = moe.inject(transformer, file)
    handle.count()
    forward(transformer)
    shares = handle.shares()
    assert shares.keys() == handle.layers.keys()
    assert all(sum(share) == pytest.approx(1) for share in shares.values())
    handle.count(False)
    forward(transformer)
    assert handle.shares() == {}


@pytest.fixture(scope="module")
def full() -> FluxTransformer2DModel:
    with torch.device("meta"):
        return FluxTransformer2DModel.from_config(FULL)


def test_released_files_at_full_size(full: FluxTransformer2DModel) -> None:
    plain = released(full, 32, device="meta")
    assert len(plain) == 686
    assert sum(tensor.numel() for tensor in plain.values()) == 115_912_704
    adapters.install(full, plain, "normal", {})
    placed = [name for name, _ in full.named_parameters() if ".lora_" in name]
    assert len(placed) == 686
    adapters.eject(full, "normal")

    state = released(full, 32, experts=4, device="meta")
    assert len(state) == 1085
    assert sum(tensor.numel() for tensor in state.values()) == 214_437_888
    handle = moe.inject(full, state)
    assert len(handle.layers) == 57
    assert len([name for name, _ in full.named_parameters() if ".lora_" in name]) == 572
    handle.eject()
    assert not any(isinstance(module, MoELinear) for module in full.modules())


@pytest.mark.parametrize("evaluation", ["dense", "sparse"])
def test_experts_compile(transformer: FluxTransformer2DModel, file: Path, evaluation: str) -> None:
    """Dense evaluation is one graph; sparse breaks it, and both give what they give uncompiled."""
    handle = moe.inject(transformer, file)
    handle.evaluation = evaluation
    layer = next(iter(handle.layers.values()))
    learnt = [weights.requires_grad_() for weights in (layer.down_ErI, layer.up_EOr)]
    x = torch.randn(1, 24, layer.base_layer.in_features)
    compiled = torch.compile(layer, fullgraph=evaluation == "dense", backend="aot_eager")
    try:
        plain, quick = layer(x), compiled(x)
        assert torch.allclose(quick, plain, atol=1e-5)
        gradients = [torch.autograd.grad(answer.square().sum(), learnt) for answer in (plain, quick)]
        for by_layer, by_graph in zip(*gradients, strict=True):
            assert by_layer.abs().max() > 0
            assert torch.allclose(by_graph, by_layer, atol=1e-4, rtol=1e-4)
    finally:
        torch._dynamo.reset()


@pytest.mark.slow
def test_blocks_with_experts_compile(transformer: FluxTransformer2DModel, file: Path, forward: Any) -> None:
    """With inductor, block by block, as `compile: true` does."""
    moe.inject(transformer, file)
    plain = forward(transformer)
    transformer.compile_repeated_blocks(fullgraph=True)
    try:
        assert torch.allclose(forward(transformer), plain, atol=1e-5)
    finally:
        torch._dynamo.reset()


def test_a_second_lora_moe(
    bare: FluxTransformer2DModel, random_flux: Flux, forward: Any, tmp_path: Path
) -> None:
    """It loads over the first, each works alone, and either comes off without the other."""
    base, one, other = (
        forward(bare),
        *(released(bare, rank, experts=number) for rank, number in ((3, 4), (2, 2))),
    )
    other = {key: -tensor for key, tensor in other.items() if "x_embedder" not in key}
    first = moe.inject(bare, one, name="first")
    alone = forward(bare)
    second = moe.inject(bare, other, name="second")
    adapters.enable(bare, ["first"])
    assert torch.allclose(forward(bare), alone, atol=1e-5)
    adapters.enable(bare, ["second"])
    updated = forward(bare)
    assert not torch.allclose(updated, alone, atol=1e-2)
    first.eject()
    assert torch.allclose(forward(bare), updated, atol=1e-5)
    second.eject()
    assert torch.equal(forward(bare), base)


@pytest.mark.parametrize("bits", [4, 8])
def test_experts_on_a_quantized_base(
    transformer: FluxTransformer2DModel, file: Path, forward: Any, bits: int
) -> None:
    """Layers whose weights have few bits keep experts at full precision, and are themselves again after."""
    before = forward(transformer)
    handle = moe.inject(transformer, file)
    updated = forward(transformer) - before
    handle.eject()
    quantize(transformer, bits)
    base = forward(transformer)
    assert not torch.equal(base, before)
    handle = moe.inject(transformer, file)
    assert all(isinstance(layer.base_layer, Linear4bit | Linear8bitLt) for layer in handle.layers.values())
    found = forward(transformer) - base
    assert nn.functional.cosine_similarity(found.flatten(), updated.flatten(), dim=0) > 0.9
    handle.eject()
    assert torch.equal(forward(transformer), base)
