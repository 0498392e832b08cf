"""Law: every tensor of a weight file counts, and products are as exact as the file asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from editkit.errors import EditkitError
from tests.backbones.files.networks import loaded
from tests.weight_files import (
    SPELLINGS,
    State,
    write,
)


def values(model: torch.nn.Module) -> State:
    """A model's plain and packed tensors with their scales."""
    state = {f"{name} {i}": tensor for name, m in model.named_modules() for i, tensor in m._buffers.items()}
    state |= dict(model.named_parameters())
    for name, parameter in model.named_parameters():
        if statistics := getattr(parameter, "quant_state", None):
            state |= {f"{name} absmax": statistics.absmax, f"{name} code": statistics.code}
    return {
        name: torch.as_tensor(t).detach().reshape(-1).view(torch.uint8).clone()
        for name, t in state.items()
        if t is not None
    }


def disturbed(tensor: Tensor) -> Tensor:
    """Another tensor of the same shape and dtype."""
    changed = tensor.reshape(-1).view(torch.uint8).clone()
    changed ^= 0x11
    return changed.view(tensor.dtype).reshape(tensor.shape)


UNUSED = ("scale_input", "input_scale")
"""Activations of fp8 are scaled row by row as they come; those of NVFP4 by the file's scale."""
EVERY = "fp8 scaled, hints"
"""Of this kind all tensors are tried, of the others those of two layers, one of which is split."""


@pytest.mark.parametrize("kind", [name for name in SPELLINGS if "prefix" not in name])
def test_every_tensor_of_a_file_counts(kind: str, native: State, tmp_path: Path) -> None:
    """Law: a changed tensor changes the network or is refused, and so is a further one, by its name."""
    state, header = SPELLINGS[kind][0](native)
    file = tmp_path / "flux.safetensors"
    before = values(loaded(write((state, header), file)))
    tried = [
        name
        for name in state
        if (kind == EVERY or name.startswith(("double_blocks.0.img_attn.qkv.", "single_blocks.0.linear2.")))
        and not (name.endswith(UNUSED) and "NVFP4" not in kind)
    ]
    assert len(tried) > 3
    for name in tried:
        write((state | {name: disturbed(state[name])}, header), file)
        try:
            after = values(loaded(file))
        except EditkitError:
            continue
        assert any(not torch.equal(after[key], before[key]) for key in before), name
    further = "double_blocks.0.img_mlp.0.weight_scale_inv"
    write((state | {further: torch.ones(1)}, header), file)
    with pytest.raises(EditkitError, match=further):
        loaded(file)


def test_products_are_exact_where_a_file_asks_for_it(native: State, tmp_path: Path) -> None:
    for kind, exact in (("fp8 scaled, scale_weight", False), ("fp8 scaled, exact", True),
                        ("fp8 scaled, hints", False), ("fp8 scaled, exact hints", True),
                        ("NVFP4, ComfyUI", False), ("NVFP4, ComfyUI, no input scale", True)):  # fmt: skip
        made = loaded(write(SPELLINGS[kind][0](native), tmp_path / "flux.safetensors"))
        assert type(made.transformer_blocks[0].attn.to_q).__name__.startswith("Exact") == exact, kind
