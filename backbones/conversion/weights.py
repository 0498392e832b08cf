"""Read weights from a file of any kind, with scales and hints joined to the tensors they belong to."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from backbones.conversion import bnb_matrix, foreign, scaled
from backbones.conversion.gguf_file import GgufWeights
from backbones.conversion.reader import DTYPES, SafetensorsReader
from editkit.errors import EditkitError

PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of files that are pickles, which can run code and are never opened."""
QUANTIZED = {"U8": torch.uint8, "I8": torch.int8}
"""safetensors' names of the dtypes of packed values."""
SCALES = {"weight_scale", "scale_weight"}
"""Names of the scales of a weight in fp8."""
FULL = 4
"""Bytes of a scale in float32, of which each row has one."""


class Weights(Protocol):
    """Tensors by name; quantized ones are of diffusers' parameter classes, or `bnb_matrix.BnbMatrix`."""

    exact: bool
    """Whether the weights must be dequantized for each product, so that no activation is quantized."""

    def __getitem__(self, name: str, /) -> Any: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def on_meta(self, name: str) -> Tensor:
        """Return a tensor of the same shape on the meta device, without reading values."""

    def packed_bytes(self, name: str) -> float | None:
        """Return the bytes of a tensor that can stay quantized, with its scales; None for any other."""

    def is_plain(self, name: str) -> bool:
        """Whether safetensors reads a tensor under this name as it is, without scales."""


def open_weights(path: Path, stack: ExitStack) -> Weights:
    """Open a weights file; each tensor is read when it is looked up.

    Raises:
        EditkitError: where it is damaged, of another kind, or holds something unknown.
    """
    if path.suffix == ".gguf":
        return GgufWeights(path)
    if path.suffix not in (".safetensors", ".sft"):
        kind = "a pickle, never opened as it can run code" if path.suffix in PICKLES else "of another kind"
        raise EditkitError(f"{path.name} is {kind}; give a .safetensors or .gguf file.")
    return SafetensorsWeights(SafetensorsReader([path], stack))


class SafetensorsWeights(Mapping[str, Any]):
    """Weights of safetensors files, in which scales, 4-bit statistics and hints are separate tensors."""

    def __init__(self, stored: SafetensorsReader) -> None:
        self._stored = stored
        foreign.check_format(stored)
        owners = {name.removesuffix(".weight"): name for name in stored if name.endswith(".weight")}
        beside: dict[str, tuple[str, str]] = {}
        for module, name in owners.items():
            beside |= {f"{module}.{word}": (name, word) for word in scaled.COMPANIONS}
            beside |= {f"{name}.{word}": (name, word) for word in bnb_matrix.COMPANIONS}
        self._companions: dict[str, dict[str, str]] = {}
        self._names = []
        for key in stored:
            if key in beside:
                owner, word = beside[key]
                self._companions.setdefault(owner, {})[word] = key
            elif key.rpartition(".")[2] != scaled.MARKER:
                self._names.append(key)
        self._hints = self._read_hints()
        self.exact = self._exact()
        self._among_scaled = any(words.keys() & SCALES for words in self._companions.values())

    def __getitem__(self, name: str) -> Any:
        weight = self._stored[name]
        companions = {word: self._stored[key] for word, key in self._companions.get(name, {}).items()}
        if companions.keys() & set(bnb_matrix.STATE):
            return bnb_matrix.read_matrix(name, weight, companions)
        companions.pop("comfy_quant", None)
        module = name.removesuffix(".weight")
        hint = self._hints.get(module)
        return scaled.join_scales(module, weight, companions, hint, among_scaled=self._among_scaled)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def on_meta(self, name: str) -> Tensor:
        return torch.empty(self._shape(name), dtype=self._dtype(name), device="meta")

    def packed_bytes(self, name: str) -> float | None:
        companions = self._companions.get(name, {})
        if companions.keys() & set(bnb_matrix.STATE):
            return float(sum(map(self._stored.size, (name, *companions.values()))))
        if "weight_scale_2" in companions:
            return self._stored.size(name) * (1 + 2 / scaled.BLOCK)  # a byte holds two values
        scales = companions.keys() & SCALES
        if not scales or self._dtype(name) == torch.float8_e5m2:
            return None
        return float(self._stored.size(name) + FULL * self._shape(name)[0])

    def is_plain(self, name: str) -> bool:
        return name not in self._companions

    def _shape(self, name: str) -> tuple[int, ...]:
        companions, shape = self._companions.get(name, {}), self._stored.shape(name)
        for state in companions.keys() & set(bnb_matrix.STATE):
            return bnb_matrix.stored_shape(self._stored[companions[state]])
        if "weight_scale_2" in companions and len(shape) == 2:
            return shape[0], 2 * shape[1]
        return shape

    def _dtype(self, name: str) -> torch.dtype:
        code = self._stored.code(name)
        if code not in DTYPES and not (code in QUANTIZED and name in self._companions):
            raise EditkitError(f"{name} has dtype {code}; FLUX's weights are one of {', '.join(DTYPES)}.")
        return DTYPES.get(code, torch.float16)

    def _read_hints(self) -> dict[str, dict[str, Any]]:
        """Return ComfyUI's hints by module, from tensors and from the header."""
        hints = {}
        for name, companions in self._companions.items():
            if "comfy_quant" in companions:
                module, text = name.removesuffix(".weight"), self._stored[companions["comfy_quant"]]
                hints[module] = scaled.parse_hint(module, text.numpy().tobytes())
        header = self._stored.metadata().get(scaled.METADATA)
        for layer, hint in (_layers(header) if header else {}).items():
            module = self._module(layer)
            hints[module] = scaled.check_hint(module, {"format": hint} if isinstance(hint, str) else hint)
        return hints

    def _module(self, layer: str) -> str:
        """Return the module that a header's entry names, with or without the file's prefix."""
        found = [name.removesuffix(".weight") for name in _names_ending_in(self._names, f"{layer}.weight")]
        if len(found) != 1:
            raise EditkitError(f"The header names {layer}, which is not in the file; download it again.")
        return found[0]

    def _exact(self) -> bool:
        """Whether the file asks for products without quantized activations, or lacks the scales for them."""
        markers = [key for key in self._stored if key.rpartition(".")[2] == scaled.MARKER]
        # ComfyUI's first spelling: two values ask for products in full precision.
        asked = any(self._stored[key].numel() == 2 for key in markers)
        asked |= any(hint.get("full_precision_matrix_mult") for hint in self._hints.values())
        fours = [words for words in self._companions.values() if "weight_scale_2" in words]
        return asked or any("input_scale" not in words for words in fours)


def _layers(text: str) -> dict[str, Any]:
    """Parse the header's entry with hints."""
    try:
        layers = json.loads(text)["layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise EditkitError(
            f"The header's {scaled.METADATA} cannot be read; download the file again."
        ) from error
    return dict(layers)


def _names_ending_in(names: Iterable[str], end: str) -> list[str]:
    return [name for name in names if name == end or name.endswith(f".{end}")]
