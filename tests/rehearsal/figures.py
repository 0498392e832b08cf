"""What a rehearsal measured, told at the end of the run."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch
from torch import Tensor

ROWS: list[str] = []
_since = [time.perf_counter()]


def relative(mine: Tensor, other: Tensor) -> float:
    """Root mean square of a difference, in shares of that of the other tensor."""
    assert mine.shape == other.shape
    difference, whole = (mine - other).float().square().mean(), other.float().square().mean()
    return float((difference / whole).sqrt())


def tell(what: str, value: float | str) -> None:
    """Keep a figure for the end, with the seconds since the one before."""
    now = time.perf_counter()
    shown = value if isinstance(value, str) else "equal" if value == 0 else f"relative RMS {value:.5f}"
    ROWS.append(f"{what}: {shown}, {now - _since[0]:.1f} s")
    _since[0] = now


def start() -> None:
    """Take the time from now on."""
    _since[0] = time.perf_counter()


def memory(device: torch.device) -> str:
    """The most memory that tensors took on a device so far."""
    return f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB at most"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures, once."""
    if ROWS:
        terminalreporter.section("figures of the rehearsal")
        for row in ROWS:
            terminalreporter.line(row)
        used = resource.getrusage(resource.RUSAGE_SELF)
        terminalreporter.line(
            f"this process: {used.ru_utime + used.ru_stime:.0f} s of CPU, "
            f"{used.ru_maxrss * 1024 / 1e9:.1f} GB of main memory at most"
        )
        ROWS.clear()
