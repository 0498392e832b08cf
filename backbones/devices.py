"""Choose the device and the precision of a backbone."""

from typing import Any

import torch

from editkit import gpus
from editkit.errors import EditkitError


def choose_device(name: str | None) -> torch.device:
    """Return the requested device, or the best one of this machine where None.

    Raises:
        EditkitError: where the machine does not have it, or the name is that of a GPU to plan for.
    """
    gpus.check_runs(name)
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(name)
        torch.zeros(
            1, device=chosen
        ).item()  # fails where the device is missing or, like `meta`, has no values
    except (RuntimeError, AssertionError) as error:
        raise EditkitError(
            f"The device {name!r} is not here; use cpu, or cuda or mps where the machine has one."
        ) from error
    return chosen


def choose_dtype(name: str | torch.dtype | None, chosen: torch.device) -> torch.dtype:
    """Return the requested precision; where None, fp32 on a CPU and bf16 elsewhere.

    Raises:
        EditkitError: where the precision is unknown.
    """
    if name is None:
        return torch.float32 if chosen.type == "cpu" else torch.bfloat16
    known: dict[Any, torch.dtype] = {
        "float32": torch.float32,
        "fp32": torch.float32,
        "bfloat16": torch.bfloat16,
        "bf16": torch.bfloat16,
        "float16": torch.float16,
        "fp16": torch.float16,
    }
    known |= {value: value for value in known.values()}
    if name not in known:
        raise EditkitError(f"The dtype {name!r} is unknown; use float32, bfloat16 or float16.")
    return known[name]
