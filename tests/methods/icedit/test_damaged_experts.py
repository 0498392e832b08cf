"""Damaged experts are refused by the command line, and the old picture stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import ROOT
from tests.cases import Place, edit
from tests.command_line import Cli, refused

EXPERTS = ROOT / "methods" / "icedit" / "tiny" / "moe" / "pytorch_lora_weights.safetensors"


def _uneven(state: dict[str, torch.Tensor]) -> None:
    for key in [key for key in state if ".ff.net.2.lora_" in key and ".expert_1." in key]:
        state[key] = (state[key][:4] if "lora_A" in key else state[key][:, :4]).contiguous()


def _not_finite(state: dict[str, torch.Tensor]) -> None:
    next(tensor for key, tensor in state.items() if "lora_route" in key).fill_(float("nan"))


def _a_block_less(state: dict[str, torch.Tensor]) -> None:
    for key in [key for key in state if "single_transformer_blocks.2.proj_out" in key]:
        del state[key]


def _no_router(state: dict[str, torch.Tensor]) -> None:
    del state[next(key for key in state if "lora_route" in key)]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_uneven, "differ in rank"),
        (_not_finite, "not finite"),
        (_a_block_less, "experts on 4 of 5 modules called proj_out"),
        (_no_router, "experts or a router but not both"),
    ],
)
def test_damaged_experts(cli: Cli, place: Place, damage: Callable[..., None], words: str) -> None:
    state = load_file(EXPERTS)
    damage(state)
    save_file(state, place.folder / "moe.safetensors")
    option = f"adapter={place.folder / 'moe.safetensors'}"
    refused(cli(*edit(place, "-m", "icedit", "--option", option, backbone="tiny")), words)
    assert place.output.read_bytes() == b"old"
