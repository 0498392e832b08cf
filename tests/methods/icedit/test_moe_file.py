"""Adapter files: what they say of themselves, and which are refused and leave the transformer as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

import editkit
from editkit import adapters
from methods.icedit import moe
from methods.icedit.moe_options import MoEOptions
from tests.random_weights import WIDTH, transformer_config
from tests.released_adapters import EXPERTS, RANK, released


def without(end: str) -> Any:
    return lambda state: {key: tensor for key, tensor in state.items() if not key.endswith(end)}


def changed(end: str, change: Any) -> Any:
    return lambda state: {
        key: change(tensor) if key.endswith(end) else tensor for key, tensor in state.items()
    }


BAD: dict[str, tuple[Any, str]] = {
    "a router is missing": (without("0.ff.net.2.lora_route.weight"), "experts or a router but not both"),
    "an expert is missing": (without("0.ff.net.2.lora_A.expert_3.weight"), r"experts \[0, 1, 2\] of lora_A"),
    "half a pair is missing": (without("0.norm1.linear.lora_B.weight"), "lacks its lora_B"),
    "uneven ranks": (
        changed("0.ff.net.2.lora_A.expert_2.weight", lambda tensor: tensor[:2]),
        "differ in rank",
    ),
    "not a number": (
        changed("0.ff.net.2.lora_B.expert_1.weight", lambda tensor: tensor * float("nan")),
        "not finite",
    ),
    "another width": (changed("0.ff.net.2.lora_route.weight", lambda tensor: tensor[:, :5]), "do not fit"),
    "an expert that is no matrix": (
        changed("0.ff.net.2.lora_A.expert_1.weight", lambda tensor: tensor.flatten()),
        "is no matrix",
    ),
    "a router that is no matrix": (
        changed("0.ff.net.2.lora_route.weight", lambda t: t.sum()),
        "is no matrix",
    ),
    "experts and a plain LoRA on one module": (
        lambda state: (
            state
            | {
                f"transformer.transformer_blocks.0.ff.net.2.lora_{letter}.weight": state[
                    f"transformer.transformer_blocks.0.ff.net.2.lora_{letter}.expert_0.weight"
                ]
                for letter in "AB"
            }
        ),
        "experts and a plain LoRA",
    ),
    "no experts": (lambda _: {}, "no experts"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(transformer: FluxTransformer2DModel, file: Path, name: str) -> None:
    change, sentence = BAD[name]
    before = [module for module in transformer.modules()]
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        moe.inject(transformer, change(load_file(file)))
    assert str(caught.value).endswith(".")
    assert [module for module in transformer.modules()] == before


def added(module: str) -> Any:
    return lambda state: (
        state
        | {
            f"transformer.{module}.lora_A.weight": torch.zeros(RANK, 64),
            f"transformer.{module}.lora_B.weight": torch.zeros(64, RANK),
        }
    )


BAD_IN_BOTH: dict[str, tuple[Any, str]] = {
    "half a pair is missing": (without("0.norm1.linear.lora_B.weight"), "lacks its lora_B"),
    "not a number": (
        changed("0.norm1.linear.lora_B.weight", lambda tensor: tensor * float("nan")),
        "not finite",
    ),
    "a module that is nowhere": (added("nothing"), "no linear layer nothing"),
    "a block that is nowhere": (
        added("transformer_blocks.17.attn.to_q"),
        r"no linear layer transformer_blocks\.17",
    ),
    "no common rank": (changed("0.norm1.linear.lora_A.weight", lambda tensor: tensor[:2]), "ranks differ"),
    "another tensor": (
        lambda state: state | {"transformer.x_embedder.bias": torch.zeros(64)},
        "not part of a plain LoRA|no matrix",
    ),
}


@pytest.mark.parametrize("experts", [0, EXPERTS])
@pytest.mark.parametrize("name", BAD_IN_BOTH)
def test_bad_files_of_both_layouts(
    transformer: FluxTransformer2DModel, tmp_path: Path, name: str, experts: int
) -> None:
    change, sentence = BAD_IN_BOTH[name]
    save_file(change(released(transformer, RANK, experts=experts)), tmp_path / "bad.safetensors")
    before = [module for module in transformer.modules()]
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        moe.load_moe(transformer, tmp_path / "bad.safetensors", "bad")
    assert str(caught.value).endswith(".")
    assert [module for module in transformer.modules()] == before


@pytest.mark.parametrize("experts", [0, EXPERTS])
def test_wrong_base(transformer: FluxTransformer2DModel, tmp_path: Path, experts: int) -> None:
    save_file(released(transformer, RANK, experts=experts), tmp_path / "adapter.safetensors")
    other = FluxTransformer2DModel.from_config(transformer_config(64))
    with pytest.raises(editkit.EditkitError, match=r"x_embedder is 384 to 64.*load it on FLUX.1 Fill"):
        moe.load_moe(other, tmp_path / "adapter.safetensors", "wrong")
    assert not adapters.layers(other)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"alpha": "x"}, "icedit_moe cannot be used"),
        ({"alpha": [1]}, "icedit_moe cannot be used"),
        ({"alpha": 0}, "alpha must be positive"),
        ({"alpha": float("nan")}, "alpha must be positive"),
        ({"top_k": 1.5}, "whole numbers"),
        ({"top_k": True}, "whole numbers"),
        ({"noise": float("nan")}, "must be 0 or more"),
        ({"plain": [1]}, "lists of names"),
        ({"in_channels": 64}, "for a transformer of 64 channels"),
        ({"plain": ["x_embedder", "attn.to_q", "proj_mlp", "attn.add_q_proj"]}, "none on .*add_q_proj"),
    ],
)
def test_metadata_that_make_no_sense(
    transformer: FluxTransformer2DModel, tmp_path: Path, told: dict[str, Any], sentence: str
) -> None:
    save_file(
        released(transformer, RANK, experts=EXPERTS),
        tmp_path / "bad.safetensors",
        {"icedit_moe": json.dumps(told)},
    )
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        moe.load_moe(transformer, tmp_path / "bad.safetensors", "bad")
    assert str(caught.value).endswith(".")
    assert not adapters.layers(transformer)


def test_a_file_that_lacks_a_block(transformer: FluxTransformer2DModel, file: Path) -> None:
    first = "single_transformer_blocks.0.proj_out."
    state = {key: tensor for key, tensor in load_file(file).items() if first not in key}
    with pytest.raises(editkit.EditkitError, match=r"experts on \d of \d modules called proj_out"):
        moe.inject(transformer, state)


def test_experts_without_an_input_layer_know_their_base(
    transformer: FluxTransformer2DModel, tmp_path: Path
) -> None:
    """By what the file says, where no layer tells."""
    handle = moe.attach(transformer, MoEOptions(rank=RANK, plain=()))
    handle.save(tmp_path, "tiny")
    other = FluxTransformer2DModel.from_config(transformer_config(64))
    with pytest.raises(editkit.EditkitError, match="for a transformer of 384 channels"):
        moe.load_moe(other, tmp_path, "wrong")
    assert not adapters.layers(other)
    handle.eject()
    with pytest.raises(editkit.EditkitError, match="were removed from their transformer"):
        handle.eject()


METADATA = {
    "no JSON": "{",
    "no table": "[1]",
    "too many experts a token": '{"top_k": 9}',
    "no number": '{"top_k": "x"}',
    "an unknown router": '{"router": "chance"}',
}


@pytest.mark.parametrize("case", METADATA)
def test_bad_metadata(transformer: FluxTransformer2DModel, file: Path, tmp_path: Path, case: str) -> None:
    save_file(load_file(file), tmp_path / "bad.safetensors", {"icedit_moe": METADATA[case]})
    with pytest.raises(editkit.EditkitError, match="metadata icedit_moe cannot be used") as caught:
        moe.inject(transformer, tmp_path / "bad.safetensors")
    assert str(caught.value).endswith(".")
    assert not adapters.layers(transformer)


def test_metadata_name_what_there_is(transformer: FluxTransformer2DModel, file: Path, tmp_path: Path) -> None:
    """Of a file without metadata too, however few layers it adapts."""
    state = load_file(file)
    few = {
        key.replace("ff.net.2", "attn.to_out.0"): tensor[:, :WIDTH] if "lora_B" not in key else tensor
        for key, tensor in state.items()
        if "transformer_blocks.0.ff.net.2" in key and "single" not in key
    }
    few |= {key: tensor for key, tensor in state.items() if "x_embedder" in key or "0.attn.to_q" in key}
    path = moe.inject(transformer, few).save(tmp_path)
    about = json.loads(adapters.read_adapter(path)[1]["icedit_moe"])
    assert about["targets"] == ["attn.to_out.0"]
    assert set(about["plain"]) == {"x_embedder", "attn.to_q"}
