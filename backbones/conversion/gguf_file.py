"""Read the tensors of GGUF files as diffusers' quantized parameters."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editkit.errors import EditkitError, first_sentence

PLAIN = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""GGUF's types that are not quantized."""
WHOLE = {"I64": torch.int64}
"""Its type of whole numbers that are no weights, such as CLIP's position ids."""
UNPACKED = PLAIN | WHOLE
RESHAPED = "comfy.gguf.orig_shape."
"""Key under which ComfyUI-GGUF keeps the true shape of a tensor whose rows cannot be divided into blocks."""


class GgufWeights(Mapping[str, Tensor]):
    """The tensors of a GGUF file by name; each is read when it is looked up.

    Quantized matrices are diffusers' `GGUFParameter`. A tensor that was reshaped to be quantized is
    dequantized.

    Raises:
        EditkitError: where the package `gguf` is missing, the file is damaged, or a tensor's type is unknown.
    """

    exact = False

    def __init__(self, path: Path) -> None:
        try:
            import gguf
        except ImportError as error:
            raise EditkitError(
                f"{path.name} is a GGUF file, which needs the package gguf; run: pip install 'editkit[gguf]'"
            ) from error
        try:
            self._reader = gguf.GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError) as error:
            problem = f"{path.name} is truncated or is not a GGUF file ({first_sentence(error)})"
            raise EditkitError(f"{problem}; download it again.") from error
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._check_types(path)

    def __getitem__(self, name: str) -> Any:
        from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor

        tensor = self._tensors[name]
        data, kind = torch.from_numpy(tensor.data.copy()), tensor.tensor_type.name
        if kind in UNPACKED:
            value = data.view(UNPACKED[kind])
        else:
            value = GGUFParameter(data, quant_type=tensor.tensor_type)
        shape = self._reshaped(name)
        if shape is None:
            return value
        return (value if kind in UNPACKED else dequantize_gguf_tensor(value)).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def on_meta(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        shape = self._reshaped(name) or tuple(int(side) for side in reversed(tensor.shape))
        return torch.empty(shape, dtype=UNPACKED.get(tensor.tensor_type.name, torch.float16), device="meta")

    def packed_bytes(self, name: str) -> float | None:
        tensor = self._tensors[name]
        plain = tensor.tensor_type.name in UNPACKED or self._reshaped(name) is not None
        return None if plain else float(tensor.n_bytes)

    def is_plain(self, name: str) -> bool:
        return False

    def _reshaped(self, name: str) -> tuple[int, ...] | None:
        field = self._reader.fields.get(RESHAPED + name)
        return None if field is None else tuple(int(field.parts[part][0]) for part in field.data)

    def _check_types(self, path: Path) -> None:
        from diffusers.quantizers.gguf.utils import SUPPORTED_GGUF_QUANT_TYPES

        known = {kind.name for kind in SUPPORTED_GGUF_QUANT_TYPES} | PLAIN.keys()
        for name, tensor in self._tensors.items():
            if tensor.tensor_type.name not in known | WHOLE.keys():
                kinds = ", ".join(sorted(known))
                raise EditkitError(
                    f"{name} in {path.name} is of GGUF's type {tensor.tensor_type.name}, which diffusers "
                    f"cannot read; take a file of {kinds}."
                )
