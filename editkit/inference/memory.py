"""Turn out-of-memory errors into one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from editkit.errors import EditkitError


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn an out-of-memory error within the block into one sentence.

    Raises:
        EditkitError: where memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has an exception class for accelerators; on a CPU only the message shows it.
        full = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
        if not full:
            raise
        raise EditkitError(
            "The device has too little memory for this edit; give a smaller size, bfloat16 or low_memory."
        ) from error
