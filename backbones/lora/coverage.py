"""Whether all tensors of a LoRA land on a transformer; diffusers drops those that do not without a word."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from backbones import widening
from backbones.lora.keys import PREFIX
from backbones.widening import COLUMNS
from editkit.backbone import Transformer
from editkit.errors import EditkitError

MATRICES = {".lora_A.weight": "A", ".lora_B.weight": "B"}
BESIDE = (".lora_B.bias", ".lora_magnitude_vector", ".lora_magnitude_vector.weight")
"""What peft may keep with a pair of matrices: a bias, and DoRA's magnitudes."""
EXPERTS = re.compile(r"\.expert_\d+\.|\.lora_route\.")
"""In the keys of a LoRA-MoE's experts and routers."""
KINDS = (
    (EXPERTS, "a LoRA-MoE; load it for a method that has experts, or run `editkit lora collapse`"),
    (
        re.compile(r"\.(query|key)_norm\.|\.norm_(added_)?[qk]\."),
        "a control LoRA of FLUX.1 Tools, which changes norms too; give a plain LoRA",
    ),
    (
        re.compile(r"\.(lokr|hada)_"),
        "a LoKr or LoHa, which edits load alone and no `editkit lora` command takes; give a plain LoRA",
    ),
    (re.compile(r"\.diff(_b)?$"), "changes of norms or biases as they are; give a plain LoRA"),
    (re.compile(r"\.b?oft_|\.oft_diag"), "an OFT, which is not known; give a plain LoRA"),
    (re.compile(r"\.on_input$|\.ia3_"), "an IA3, which is not known; give a plain LoRA"),
    (re.compile(r"\.[ab][12](\.weight)?$"), "a GLoRA, which is not known; give a plain LoRA"),
)
"""What keys of other kinds of adapters have in them, and what these are."""
HINTS = {
    64: "; load it on FLUX.1 [dev] or Kontext",
    128: "; it is a control LoRA of FLUX.1 Tools, which no method takes",
    384: "; load it on FLUX.1 Fill",
    448: "; load it on ACE++'s widened FLUX.1 Fill",
}
"""What to do with an adapter, by the channels that its x_embedder takes."""


def describe_kind(keys: Iterable[str]) -> str:
    """A sentence on the first key that is of a known kind of adapter but no plain LoRA; empty without one."""
    return next((f"The tensor {key} is of {kind}." for key in keys if (kind := _kind(key))), "")


def _kind(key: str) -> str:
    return next((kind for pattern, kind in KINDS if pattern.search(key)), "")


def check_fit(transformer: Transformer, state: Mapping[str, Tensor]) -> None:
    """Refuse a LoRA in diffusers' layout that would not land whole.

    Raises:
        EditkitError: naming the first tensor or module that does not fit.
    """
    found = update_shapes(state)
    check_shapes(transformer, found)
    check_finite(state.values())
    magnitudes = sum(".lora_magnitude_vector" in key for key in state)
    if magnitudes not in (0, len(found)):
        raise EditkitError(
            f"{magnitudes} of {len(found)} modules are of a DoRA, the others of a plain LoRA; "
            "give a file of one kind."
        )


def update_shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """By module, the outputs and inputs of a plain LoRA's update.

    Raises:
        EditkitError: for a tensor of no LoRA, half a pair, or a pair that shares no rank.
    """
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        end = next((end for end in (*MATRICES, *BESIDE) if key.endswith(end)), "")
        if not end or not key.startswith(PREFIX):
            if kind := describe_kind([key]):
                raise EditkitError(kind)
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


def widen_lora(state: Mapping[str, Tensor], in_channels: int) -> Mapping[str, Tensor]:
    """A LoRA in peft's naming, its input layer's matrix moved to where a wider one has the same channels.

    What is known of no way from the one to the other stays as it is, for `check_fit` to refuse.
    """
    key = f"{PREFIX}x_embedder.lora_A.weight"
    way = COLUMNS.get((state[key].shape[-1], in_channels)) if key in state else None
    return state if way is None else {**state, key: widening.widen_input(state[key], in_channels, way)}


def check_shapes(transformer: Transformer, wanted: Mapping[str, tuple[int, int]]) -> None:
    """Refuse modules, by name with their outputs and inputs, that the transformer has not.

    Raises:
        EditkitError: naming the first.
    """
    bases = {name: _base(module) for name, module in transformer.named_modules()}
    held: dict[str, tuple[Any, Any]] = {
        name: (base.out_features, base.in_features)
        for name, base in bases.items()
        if hasattr(base, "in_features")
    }
    for module, (outputs, inputs) in wanted.items():
        if module not in held:
            raise EditkitError(
                f"The transformer has no linear layer {module}; the adapter is for another one."
            )
        if held[module] != (outputs, inputs):
            hint = HINTS.get(inputs, "") if module == "x_embedder" else ""
            raise EditkitError(
                f"The adapter's {module} is {inputs} to {outputs}, "
                f"the transformer's {held[module][1]} to {held[module][0]}{hint}."
            )


def _base(module: Any) -> Any:
    """The layer under a module's adapters."""
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module


def check_finite(tensors: Iterable[Tensor]) -> None:
    """Refuse values that are not finite; tensors without values pass.

    Raises:
        EditkitError: where there are any.
    """
    if not all(tensor.is_meta or torch.isfinite(tensor.float()).all() for tensor in tensors):
        raise EditkitError("The adapter holds values that are not finite; its file is damaged.")
