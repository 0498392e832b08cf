"""Check that all tensors of a LoRA fit a transformer; diffusers silently drops those that do not."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from backbones import widening
from backbones.lora.keys import PREFIX
from backbones.quantized import is_packed_layer
from backbones.widening import COLUMNS
from editkit.backbone import Transformer
from editkit.errors import EditkitError

MATRICES = {".lora_A.weight": "A", ".lora_B.weight": "B"}
"""Endings of the keys of a LoRA's matrices."""
BESIDE = (".lora_B.bias", ".lora_magnitude_vector", ".lora_magnitude_vector.weight")
"""Endings of tensors that peft may keep beside the matrices: a bias, and DoRA's magnitudes."""
EXPERTS = re.compile(r"\.expert_\d+\.|\.lora_route\.")
"""Pattern in the keys of a LoRA-MoE's experts and routers."""
KINDS = (
    (EXPERTS, "a LoRA-MoE; load it for a method with experts, or run `editkit lora collapse`"),
    (
        re.compile(r"\.(query|key)_norm\.|\.norm_(added_)?[qk]\."),
        "a control LoRA of FLUX.1 Tools, which changes norms too; give a plain LoRA",
    ),
    (
        re.compile(r"\.(lokr|hada)_"),
        "a LoKr or LoHa, which edits can load but `editkit lora` cannot change; give a plain LoRA",
    ),
    (re.compile(r"\.diff(_b)?$"), "changes of norms or biases; give a plain LoRA"),
    (re.compile(r"\.b?oft_|\.oft_diag"), "an OFT, which is not supported; give a plain LoRA"),
    (re.compile(r"\.on_input$|\.ia3_"), "an IA3, which is not supported; give a plain LoRA"),
    (re.compile(r"\.[ab][12](\.weight)?$"), "a GLoRA, which is not supported; give a plain LoRA"),
)
"""Patterns in the keys of other kinds of adapters, each with the words for the kind and what to do."""
HINTS = {
    64: "; load it on FLUX.1 [dev] or Kontext",
    128: "; it is a control LoRA of FLUX.1 Tools, which no method takes",
    384: "; load it on FLUX.1 Fill",
    448: "; load it on ACE++'s widened FLUX.1 Fill",
}
"""Advice about an adapter, by the number of channels that its x_embedder takes."""


def describe_kind(keys: Iterable[str]) -> str:
    """Say in a sentence which other kind of adapter the first such key belongs to; empty for a plain LoRA."""
    return next((f"The tensor {key} belongs to {kind}." for key in keys if (kind := _kind(key))), "")


def _kind(key: str) -> str:
    return next((kind for pattern, kind in KINDS if pattern.search(key)), "")


def check_fit(transformer: Transformer, state: Mapping[str, Tensor]) -> None:
    """Check that a LoRA in diffusers' layout fits the transformer completely.

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
    if magnitudes:
        check_dora(transformer, found.__contains__)


def check_dora(transformer: Transformer, modules: Callable[[str], bool]) -> None:
    """Check that a DoRA could read the values of the weights that it scales.

    Args:
        transformer: the transformer.
        modules: whether the DoRA has a module, by its name.

    Raises:
        EditkitError: naming the first module whose weight is packed.
    """
    for name, module in transformer.named_modules():
        if modules(name) and is_packed_layer(_base(module)):
            raise EditkitError(
                f"A DoRA reads the values of weights, but the weight of {name} is packed (GGUF, scaled "
                "fp8 or NVFP4); take a plain LoRA, or weights in bf16, fp8 without scales, or 4 bits of "
                "bitsandbytes."
            )


def check_whole_shapes(transformer: Transformer, modules: Iterable[str], kind: str) -> None:
    """Check that weights have their shapes in memory, which peft gives the updates of a LoKr or LoHa.

    Raises:
        EditkitError: naming the first module whose weight is packed in another shape.
    """
    for name in modules:
        base = _base(transformer.get_submodule(name))
        if tuple(base.weight.shape) != (base.out_features, base.in_features):
            raise EditkitError(
                f"A {kind} needs weights in their own shapes, but the weight of {name} is packed (GGUF, "
                "NVFP4 or bitsandbytes' 4 bits); take a plain LoRA, or weights in bf16 or fp8."
            )


def update_shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Return the numbers of outputs and inputs of a plain LoRA's updates, by module.

    Raises:
        EditkitError: for a tensor that is not part of a LoRA, a single matrix, or a pair of different ranks.
    """
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        end = next((end for end in (*MATRICES, *BESIDE) if key.endswith(end)), "")
        if not end or not key.startswith(PREFIX):
            if kind := describe_kind([key]):
                raise EditkitError(kind)
            raise EditkitError(
                f"The tensor {key} is not part of a plain LoRA; give a file that holds only a plain LoRA."
            )
        found = pairs.setdefault(key.removeprefix(PREFIX).removesuffix(end), {})
        if end in MATRICES:
            found[MATRICES[end]] = tensor
    for module, matrices in pairs.items():
        if lacking := {"A", "B"} - matrices.keys():
            raise EditkitError(f"{module} lacks its lora_{lacking.pop()}; give the whole file.")
        down, up = matrices["A"], matrices["B"]
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise EditkitError(
                f"{module} has matrices of {tuple(down.shape)} and {tuple(up.shape)}, whose ranks differ; "
                "give an undamaged file."
            )
    return {module: (each["B"].shape[0], each["A"].shape[1]) for module, each in pairs.items()}


def widen_lora(state: Mapping[str, Tensor], in_channels: int) -> Mapping[str, Tensor]:
    """Move the columns of a LoRA's input layer to where a wider input layer has the same channels.

    Where no such move is known, the tensors stay as they are and `check_fit` refuses them.

    Args:
        state: tensors in peft's naming.
        in_channels: channels that the transformer takes.
    """
    key = f"{PREFIX}x_embedder.lora_A.weight"
    way = COLUMNS.get((state[key].shape[-1], in_channels)) if key in state else None
    return state if way is None else {**state, key: widening.widen_input(state[key], in_channels, way)}


def check_shapes(transformer: Transformer, wanted: Mapping[str, tuple[int, int]]) -> None:
    """Check that the transformer has these linear modules.

    Args:
        transformer: the transformer.
        wanted: numbers of outputs and inputs, by module.

    Raises:
        EditkitError: naming the first module that is missing or of another size.
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
                f"The transformer has no linear layer {module}; the adapter is for another model."
            )
        if held[module] != (outputs, inputs):
            hint = HINTS.get(inputs, "") if module == "x_embedder" else ""
            raise EditkitError(
                f"The adapter's {module} is {inputs} to {outputs}, "
                f"the transformer's {held[module][1]} to {held[module][0]}{hint}."
            )


def _base(module: Any) -> Any:
    """Return the layer below a module's adapters."""
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module


def check_finite(tensors: Iterable[Tensor]) -> None:
    """Check that all values are finite; tensors on the meta device are skipped.

    Raises:
        EditkitError: where a value is not finite.
    """
    if not all(tensor.is_meta or torch.isfinite(tensor.float()).all() for tensor in tensors):
        raise EditkitError("The adapter holds values that are not finite; its file is damaged.")
