"""Read matrices in bitsandbytes' 4 bits (NF4 and FP4) from its own and diffusers' files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from editkit.errors import EditkitError, first_sentence

STATE = ("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4")
"""Endings of the tensor that describes the quantization."""
COMPANIONS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", *STATE)
"""Endings of the tensors that belong to a matrix; they follow `weight` and a dot."""


class BnbMatrix:
    """A matrix in 4 bits, whose rows can be split and joined without loss.

    Args:
        packed: two values a byte, row after row.
        state: bitsandbytes' `QuantState`, with its scales in plain float32.
    """

    def __init__(self, packed: Tensor, state: Any) -> None:
        self.packed, self.state = packed, state

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.state.shape)

    def split(self, sizes: int | Sequence[int]) -> tuple[BnbMatrix, ...]:
        """Split the rows as torch.split does."""
        rows, columns = self.shape
        sizes = [sizes] * (rows // sizes) if isinstance(sizes, int) else list(sizes)
        if any(size * columns % self.state.blocksize for size in sizes):
            raise EditkitError(
                f"Blocks of {self.state.blocksize} values cross the ends of rows of {columns} columns."
            )
        values = [size * columns for size in sizes]
        packed = self.packed.flatten().split([count // 2 for count in values])
        scales = self.state.absmax.split([count // self.state.blocksize for count in values])
        return tuple(
            BnbMatrix(part[:, None].clone(), _quant_state_like(self.state, scale.clone(), (size, columns)))
            for part, scale, size in zip(packed, scales, sizes, strict=True)
        )

    def clone(self) -> BnbMatrix:
        """Return the matrix itself; `split` has made copies already."""
        return self

    def dequantized(self) -> Tensor:
        """Return the plain matrix."""
        from bitsandbytes.functional import dequantize_4bit

        plain: Tensor = dequantize_4bit(self.packed, self.state)
        return plain.reshape(self.shape)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> BnbMatrix:
        if function is not torch.cat:
            raise NotImplementedError(f"{function} of 4-bit rows")
        parts: Sequence[BnbMatrix] = args[0]
        scales = torch.cat([part.state.absmax for part in parts])
        rows = sum(part.shape[0] for part in parts)
        first = parts[0].state
        return cls(
            torch.cat([part.packed for part in parts]),
            _quant_state_like(first, scales, (rows, parts[0].shape[1])),
        )


def read_matrix(name: str, packed: Tensor, companions: Mapping[str, Tensor]) -> BnbMatrix:
    """Make a matrix of its packed values and the tensors that belong to it.

    Args:
        name: name of the matrix, for error messages.
        packed: two values a byte.
        companions: the tensors of the file whose endings are in `COMPANIONS`.

    Raises:
        EditkitError: where bitsandbytes is missing or refuses the tensors.
    """
    try:
        from bitsandbytes.functional import QuantState, dequantize_blockwise
    except ImportError as error:
        raise EditkitError(
            f"{name} is in bitsandbytes' 4 bits, which needs its package; run: pip install bitsandbytes"
        ) from error
    try:
        state = QuantState.from_dict(dict(companions), device=torch.device("cpu"))
        if state.nested:
            state.absmax = (dequantize_blockwise(state.absmax, state.state2) + state.offset).float()
            state.nested, state.state2, state.offset = False, None, None
    except (ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise EditkitError(
            f"{name} has 4-bit statistics that bitsandbytes refuses ({first_sentence(error)}); "
            "download the file again."
        ) from error
    return BnbMatrix(packed, state)


def stored_shape(companion: Tensor) -> tuple[int, ...]:
    """Return the shape of the matrix, as its quant_state tensor gives it."""
    return tuple(json.loads(companion.numpy().tobytes())["shape"])


def _quant_state_like(state: Any, absmax: Tensor, shape: tuple[int, int]) -> Any:
    """Make a QuantState like another one, with other scales and another shape."""
    from bitsandbytes.functional import QuantState

    return QuantState(
        absmax=absmax,
        shape=torch.Size(shape),
        code=state.code,
        blocksize=state.blocksize,
        quant_type=state.quant_type,
        dtype=state.dtype,
    )
