"""What a run tells on its way: lines of JSON that a resumed run goes on with, its memory, and trackers."""

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
    """Add a line.

    Raises:
        EditkitError: where it cannot be written.
    """
    try:
        with path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
    except OSError as error:
        raise EditkitError(
            f"The log {path} cannot be written ({error.strerror}); free some space and resume."
        ) from error


def trim(log: Path, start: int) -> None:
    """Drop what was logged after the checkpoint that the run goes on from; everything, for a new run."""
    lines = log.read_text().splitlines(keepends=True) if start and log.is_file() else []
    kept = (line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start)
    with atomic_files.beside(log) as partial:
        partial.write_text("".join(kept))


def last_figures(output: Path) -> dict[str, float]:
    """What a run logged last: loss, and figures of its validation."""
    found: dict[str, float] = {}
    for name in ("log.jsonl", "validation.jsonl"):
        path = output / name
        lines = path.read_text().splitlines() if path.is_file() else []
        if lines:
            found |= json.loads(lines[-1])
    return found


def recent_losses(log: Path, count: int) -> list[float]:
    """The last mean losses that a run logged, at most so many."""
    lines = log.read_text().splitlines()[-count:] if log.is_file() else []
    return [json.loads(line)["loss"] for line in lines]


def better(figures: dict[str, float], best: dict[str, float] | None) -> bool:
    """Whether these figures beat the best so far: by success where it is counted, else by the first."""
    if best is None or not all(map(math.isfinite, best.values())):
        return True
    if "success" in figures and "success" in best:
        return figures["success"] > best["success"]
    name = next(iter(figures))
    return figures[name] < best[name]


def best_of(path: Path) -> dict[str, float] | None:
    """The best figures of a run that goes on."""
    best = None
    for line in path.read_text().splitlines():
        figures = {name: value for name, value in json.loads(line).items() if name != "step"}
        best = figures if better(figures, best) else best
    return best


def memory() -> int:
    """Bytes: the GPU's at the peak so far, or this process's now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import psutil  # which accelerate needs too

    return int(psutil.Process().memory_info().rss)


def trackers(names: Sequence[str]) -> list[str]:
    """Those that are installed; a missing TensorBoard is no reason not to train."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if strange := [name for name in names if name not in LOGGER_TYPE_TO_CLASS]:
        raise EditkitError(unknown("tracker", strange[0], LOGGER_TYPE_TO_CLASS))
    found = [name for name in names if name != "tensorboard" or find_spec("tensorboard")]
    for name in found:
        if not find_spec(name):
            raise EditkitError(f"The tracker {name} is not installed; run: pip install {name}")
    return found
