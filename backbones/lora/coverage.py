"""Whether all tensors of a LoRA land on a transformer; diffusers drops those that do not without a word."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from backbones.conversion import state_dict
from backbones.widening import COLUMNS
from editkit.backbone import Transformer
from editkit.errors import EditkitError

PREFIX = "transformer."
MATRICES = {".lora_A.weight": "A", ".lora_B.weight": "B"}
BESIDE = (".lora_B.bias", ".lora_magnitude_vector", ".lora_magnitude_vector.weight")
"""What peft may keep with a pair of matrices: a bias, and DoRA's magnitudes."""
EXPERTS = re.compile(r"\.expert_\d+\.|\.lora_route\.")
"""In the keys of a LoRA-MoE's experts and routers."""
MADE_FOR = {64: "FLUX.1 [dev] or Kontext", 384: "FLUX.1 Fill", 448: "ACE++'s widened FLUX.1 Fill"}
"""Networks by the channels that they take."""


def check(transformer: Transformer, state: Mapping[str, Tensor]) -> None:
    """Refuse a plain LoRA in peft's naming that would not land whole; other namings pass unchecked.

    Raises:
        EditkitError: naming the first tensor or module that does not fit.
    """
    if any(key.endswith(tuple(MATRICES)) for key in state):
        check_shapes(transformer, shapes(state))
        check_finite(state.values())


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """By module, the outputs and inputs of a plain LoRA's update.

    Raises:
        EditkitError: for a tensor of no LoRA, half a pair, or a pair that shares no rank.
    """
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        end = next((end for end in (*MATRICES, *BESIDE) if key.endswith(end)), "")
        if EXPERTS.search(key):
            way = "load it for a method that has experts, or run `editkit lora collapse`"
            raise EditkitError(f"The tensor {key} is of a LoRA-MoE; {way}.")
        if not end or not key.startswith(PREFIX):
            raise EditkitError(f"The tensor {key} is no part of a plain LoRA; give a file with nothing else.")
        found = pairs.setdefault(key.removeprefix(PREFIX).removesuffix(end), {})
        if end in MATRICES:
            found[MATRICES[end]] = tensor
    for module, matrices in pairs.items():
        if lacking := {"A", "B"} - matrices.keys():
            raise EditkitError(f"{module} lacks its lora_{lacking.pop()}; give the whole file.")
        down, up = matrices["A"], matrices["B"]
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise EditkitError(
                f"{module} has matrices of {tuple(down.shape)} and {tuple(up.shape)}, which share no rank; "
                "give a sound file."
            )
    return {module: (each["B"].shape[0], each["A"].shape[1]) for module, each in pairs.items()}


def widened(state: Mapping[str, Tensor], in_channels: int) -> Mapping[str, Tensor]:
    """A LoRA in peft's naming, its input layer's matrix moved to where a wider one has the same channels.

    What is known of no way from the one to the other stays as it is, for `check` to refuse.
    """
    key = f"{PREFIX}x_embedder.lora_A.weight"
    way = COLUMNS.get((state[key].shape[-1], in_channels)) if key in state else None
    return state if way is None else {**state, key: state_dict.widen_input(state[key], in_channels, way)}


def check_shapes(transformer: Transformer, wanted: Mapping[str, tuple[int, int]]) -> None:
    """Refuse modules, by name with their outputs and inputs, that the transformer has not.

    Raises:
        EditkitError: naming the first.
    """
    held: dict[str, tuple[Any, Any]] = {
        name: (module.out_features, module.in_features)
        for name, module in transformer.named_modules()
        if hasattr(module, "in_features")
    }
    for module, (outputs, inputs) in wanted.items():
        if module not in held:
            raise EditkitError(
                f"The transformer has no linear layer {module}; the adapter is for another one."
            )
        if held[module] != (outputs, inputs):
            hint = f"; load it on {MADE_FOR[inputs]}" if module == "x_embedder" and inputs in MADE_FOR else ""
            raise EditkitError(
                f"The adapter's {module} is {inputs} to {outputs}, "
                f"the transformer's {held[module][1]} to {held[module][0]}{hint}."
            )


def check_finite(tensors: Iterable[Tensor]) -> None:
    """Refuse values that are not finite; tensors without values pass.

    Raises:
        EditkitError: where there are any.
    """
    if not all(tensor.is_meta or torch.isfinite(tensor.float()).all() for tensor in tensors):
        raise EditkitError("The adapter holds values that are not finite; its file is damaged.")
