"""Too little memory, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from editkit.errors import EditkitError


@contextmanager
def enough_memory() -> Iterator[None]:
    """Say in one sentence that there was too little.

    Raises:
        EditkitError: then.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has a class of its own for accelerators; on a CPU only the words tell.
        full = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
        if not full:
            raise
        raise EditkitError(
            "The device has too little memory for this edit; give a smaller size, bfloat16 or low_memory."
        ) from error
