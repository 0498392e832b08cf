"""Transformers behind a wider input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel

from backbones.flux import Flux, load_flux
from editkit import EditkitError, adapters


def test_a_role_may_be_another_behind_a_wider_input() -> None:
    """tiny's full model is its Fill, widened, and an adapter; on any backbone `{ace: fill}` asks for that."""
    own = load_flux("tiny", device="cpu")
    asked = load_flux("tiny", "cpu", loading={"transformer": {"ace": "fill"}})
    for backbone in (own, asked):
        fill, ace = backbone.transformer("fill"), backbone.transformer("ace")
        assert ace is not fill
        columns = [*range(128), *range(192, 448)]
        assert torch.equal(ace.x_embedder.weight[:, columns], fill.x_embedder.weight)
        assert (ace.x_embedder.weight[:, 128:192] == 0).all()
        assert backbone.fingerprints("ace")["transformer"] == backbone.fingerprints("fill")["transformer"]
        shared = dict(fill.named_parameters())["transformer_blocks.0.attn.to_q.weight"]
        assert ace.transformer_blocks[0].attn.to_q.weight.data_ptr() == shared.data_ptr()
    with pytest.raises(EditkitError, match="no weights of its own for the role 'ace'"):
        load_flux("tiny", "cpu", loading={"transformer": {"fill": "ace"}}).transformer("fill")
    with pytest.raises(
        EditkitError, match="transformer may name the roles text, kontext, fill, ace, not 'asce'"
    ):
        load_flux("tiny", "cpu", loading={"transformer": {"asce": "fill"}})
    with pytest.raises(EditkitError, match="fill cannot be loaded"):
        load_flux("tiny", "cpu", loading={"transformer": "fill"}).transformer("fill")


def test_widened_weights_leave_adapters_behind(random_flux: Flux) -> None:
    from backbones.widening import widen_transformer

    fill = FluxTransformer2DModel.from_config(random_flux.transformer("fill").config)
    before = {name: tensor.clone() for name, tensor in fill.state_dict().items()}
    adapters.attach(fill, adapters.LoraOptions(rank=3, targets=("x_embedder", "attn.to_q")))
    after = widen_transformer(fill, 448).state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before if name != "x_embedder.weight")


def test_an_adapter_of_fill_begins_on_a_wider_input_as_what_it_was(random_flux: Flux, tmp_path: Path) -> None:
    from backbones.widening import widen_transformer

    fill = FluxTransformer2DModel.from_config(random_flux.transformer("fill").config)
    wide = widen_transformer(fill, 448)
    adapters.attach(fill, adapters.LoraOptions(rank=3, targets=("x_embedder", "attn.to_q")))
    for name, parameter in fill.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapters.save(fill, tmp_path)
    with pytest.raises(EditkitError, match=r"load it on FLUX\.1 Fill"):
        adapters.load_adapter(wide, tmp_path, "default")
    adapters.resume(wide, tmp_path)
    tokens = torch.randn(2, 448)
    narrow = tokens[:, [*range(128), *range(192, 448)]]
    assert torch.allclose(wide.x_embedder(tokens), fill.x_embedder(narrow), atol=1e-5)
    assert wide.x_embedder.lora_A["default"].weight.requires_grad
