"""Adapters on a transformer without values are those on the whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel

from backbones.empty_models import empty_model
from editkit import adapters
from editkit.train.distributed import meta_weights
from methods.icedit import moe
from methods.icedit.moe_options import MoEOptions
from tests.random_weights import transformer_config

LORA = adapters.LoraOptions(rank=4)
EXPERTS = MoEOptions(experts=2, rank=4)


def trained(model: FluxTransformer2DModel) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def assert_same_adapter(empty: FluxTransformer2DModel, whole: FluxTransformer2DModel) -> None:
    ours, theirs = trained(empty), trained(whole)
    assert ours.keys() == theirs.keys()
    assert theirs
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    frozen = [p for name, p in empty.named_parameters() if name not in ours]
    assert all(p.is_meta for p in frozen)


@pytest.mark.parametrize("kind", ["lora", "experts"])
def test_a_new_adapter_has_the_values_that_it_has_on_the_whole_transformer(kind: str) -> None:
    empty = empty_model(FluxTransformer2DModel, transformer_config())
    whole = FluxTransformer2DModel.from_config(transformer_config())
    for model in (empty, whole):
        torch.manual_seed(0)
        with meta_weights.stand_ins(model):
            if kind == "lora":
                adapters.attach(model, LORA)
            else:
                moe.attach(model, EXPERTS)
    assert_same_adapter(empty, whole)


@pytest.mark.parametrize("dora", [False, True])
def test_a_saved_adapter_goes_on_without_the_weights_values(tmp_path: Path, dora: bool) -> None:
    whole = FluxTransformer2DModel.from_config(transformer_config())
    adapters.attach(whole, adapters.LoraOptions(rank=4, dora=dora))
    file = adapters.save(whole, tmp_path)
    empty = empty_model(FluxTransformer2DModel, transformer_config())
    with meta_weights.stand_ins(empty):
        adapters.resume(empty, file)
    assert_same_adapter(empty, whole)


def test_an_adapter_that_begins_from_values_is_not_finite() -> None:
    """A new DoRA's magnitudes are norms of weights, which are not known yet."""
    empty = empty_model(FluxTransformer2DModel, transformer_config())
    with meta_weights.stand_ins(empty):
        adapters.attach(empty, adapters.LoraOptions(rank=4, dora=True))
    assert not all(torch.isfinite(p).all() for p in trained(empty).values())
