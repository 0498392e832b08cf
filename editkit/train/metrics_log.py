"""Logs of a run as lines of JSON, which a resumed run continues; memory in use; trackers."""

import json
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from editkit import atomic_files
from editkit.errors import EditkitError, unknown


def append(path: Path, record: dict[str, Any]) -> None:
    """Append a record to a log.

    Raises:
        EditkitError: where the log cannot be written.
    """
    try:
        with path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
    except OSError as error:
        raise EditkitError(
            f"The log {path} cannot be written ({error.strerror}); free some space and resume."
        ) from error


def trim(log: Path, start: int) -> None:
    """Drop the lines of a log behind a step; all lines for step 0."""
    lines = log.read_text().splitlines(keepends=True) if start and log.is_file() else []
    kept = (line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start)
    with atomic_files.beside(log) as partial:
        partial.write_text("".join(kept))


def last_figures(output: Path) -> dict[str, float]:
    """Return the last logged loss and validation figures of a run."""
    found: dict[str, float] = {}
    for name in ("log.jsonl", "validation.jsonl"):
        path = output / name
        lines = path.read_text().splitlines() if path.is_file() else []
        if lines:
            found |= json.loads(lines[-1])
    return found


def recent_losses(log: Path, count: int) -> list[float]:
    """Return the last logged losses of a run, `count` at most."""
    lines = log.read_text().splitlines()[-count:] if log.is_file() else []
    return [json.loads(line)["loss"] for line in lines]


def holds(log: Path, step: int) -> bool:
    """Whether a log has a record of a step."""
    return log.is_file() and any(json.loads(line)["step"] == step for line in log.read_text().splitlines())


def better(figures: dict[str, float], best: dict[str, float] | None) -> bool:
    """Whether figures beat the best so far: a higher success if it is counted, else a lower first figure."""
    if best is None or not all(map(math.isfinite, best.values())):
        return True
    if "success" in figures and "success" in best:
        return figures["success"] > best["success"]
    name = next(iter(figures))
    return figures[name] < best[name]


def best_of(path: Path) -> dict[str, float] | None:
    """Find the best figures in a validation log."""
    best = None
    for line in path.read_text().splitlines():
        figures = {name: value for name, value in json.loads(line).items() if name != "step"}
        best = figures if better(figures, best) else best
    return best


def memory() -> int:
    """Return bytes in use: the GPU's peak so far, or this process's memory now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import psutil  # a dependency of accelerate

    return int(psutil.Process().memory_info().rss)


def trackers(names: Sequence[str]) -> list[str]:
    """Return the trackers that are installed; TensorBoard may be missing.

    Raises:
        EditkitError: where another one is unknown or not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if strange := [name for name in names if name not in LOGGER_TYPE_TO_CLASS]:
        raise EditkitError(unknown("tracker", strange[0], LOGGER_TYPE_TO_CLASS))
    found = [name for name in names if name != "tensorboard" or find_spec("tensorboard")]
    for name in found:
        if not find_spec(name):
            raise EditkitError(f"The tracker {name} is not installed; run: pip install {name}")
    return found
