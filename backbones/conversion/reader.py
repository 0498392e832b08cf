"""Read checkpoints tensor by tensor, so that only the tensors in use are in memory."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from editkit.errors import EditkitError

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
"""safetensors' names of the dtypes that FLUX's weights may have."""


class SafetensorsReader(Mapping[str, Tensor]):
    """The tensors of safetensors files by name; each is read when it is looked up.

    Raises:
        EditkitError: where a file is missing, truncated or in another format.
    """

    def __init__(self, files: Iterable[Path], stack: ExitStack) -> None:
        self._handles: dict[str, Any] = {}
        for file in files:
            try:
                handle = stack.enter_context(safe_open(file, framework="pt"))
            except (OSError, SafetensorError) as error:
                problem = f"{file.name} is missing, truncated or not a safetensors file ({error})"
                raise EditkitError(f"{problem}; download it again.") from error
            self._handles |= dict.fromkeys(handle.keys(), handle)

    def __getitem__(self, name: str) -> Tensor:
        return cast(Tensor, self._handles[name].get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._handles)

    def __len__(self) -> int:
        return len(self._handles)

    def metadata(self) -> dict[str, str]:
        """Return the metadata in the files' headers."""
        found: dict[str, str] = {}
        for handle in self._handles.values():
            found |= handle.metadata() or {}
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading values."""
        return tuple(self._handles[name].get_slice(name).get_shape())

    def code(self, name: str) -> str:
        """Return safetensors' name of a tensor's dtype, without reading values."""
        return str(self._handles[name].get_slice(name).get_dtype())

    def size(self, name: str) -> int:
        """Return the bytes of a tensor's values, without reading them."""
        code = self.code(name)
        bits = int("".join(filter(str.isdigit, code.split("_")[0])))  # as in BF16, F8_E4M3 and U8
        return math.prod(self.shape(name)) * bits // 8

    def layout(self) -> dict[str, Tensor]:
        """Return tensors of the same shapes and dtypes on the meta device, without reading values."""
        layout = {}
        for name in self._handles:
            code = self.code(name)
            if code not in DTYPES:
                raise EditkitError(f"{name} has dtype {code}; FLUX's weights are one of {', '.join(DTYPES)}.")
            layout[name] = torch.empty(self.shape(name), dtype=DTYPES[code], device="meta")
        return layout
