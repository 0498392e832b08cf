"""Selective activation checkpointing: what the backward pass computes again, and that gradients stay."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from editkit.train import activation_checkpointing
from tests.random_weights import liven, transformer_config


class Counted(TorchDispatchMode):
    """Counts expensive operations, in compiled code too."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if activation_checkpointing.expensive(operation):
            self.counts[operation.overloadpacket.__name__] += 1
        return operation(*args, **(kwargs or {}))


def transformer(checkpointing: str, compiled: bool) -> Any:
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    made = FluxTransformer2DModel.from_config(
        transformer_config() | {"num_layers": 1, "num_single_layers": 1}
    )
    liven(made)
    made.requires_grad_(True).train()
    if checkpointing != "off":
        activation_checkpointing.switch_on(made, checkpointing == "selective")
    if compiled:
        made.compile_repeated_blocks()
    return made


def gradients(made: Any) -> tuple[Counter[str], dict[str, Tensor]]:
    """Count the expensive operations of the backward pass, and return the gradients."""
    torch.manual_seed(1)
    config = made.config
    text = torch.randn(2, 8, config.joint_attention_dim)
    inputs = {
        "hidden_states": torch.randn(2, 16, config.in_channels),
        "encoder_hidden_states": text,
        "pooled_projections": torch.randn(2, config.pooled_projection_dim),
        "timestep": torch.tensor([0.3, 0.7]),
        "guidance": torch.ones(2) if config.guidance_embeds else None,
        "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0)),
        "txt_ids": torch.zeros(8, 3),
        "return_dict": False,
    }
    for _ in range(2):  # the first may compile
        made.zero_grad()
        loss = made(**inputs)[0].square().mean()
        with Counted() as counted:
            loss.backward()
    return counted.counts, {name: p.grad for name, p in made.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_the_backward_pass_repeats_no_product_and_no_attention(compiled: bool) -> None:
    counts, grads = {}, {}
    for way in ("off", "all", "selective"):
        counts[way], grads[way] = gradients(transformer(way, compiled))
    assert counts["selective"] == counts["off"]
    assert sum(counts["all"].values()) > 1.3 * sum(counts["off"].values())
    for way in ("all", "selective"):
        assert grads[way].keys() == grads["off"].keys()
        for name, expected in grads["off"].items():
            torch.testing.assert_close(grads[way][name], expected, rtol=1e-4, atol=1e-6, msg=name)
