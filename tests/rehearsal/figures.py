"""Figures of a rehearsal, told at the end of the run."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch
from torch import Tensor

ROWS: list[str] = []
_since = [0.0, 0.0]


def relative(mine: Tensor, other: Tensor) -> float:
    """Root mean square of a difference, in shares of that of the other tensor."""
    assert mine.shape == other.shape
    difference, whole = (mine - other).float().square().mean(), other.float().square().mean()
    return float((difference / whole).sqrt())


def tell(what: str, value: float | str) -> None:
    """Keep a figure for the end, with the seconds since the one before."""
    clock, cpu = (now - then for now, then in zip(_now(), _since, strict=True))
    shown = value if isinstance(value, str) else "equal" if value == 0 else f"relative RMS {value:.5f}"
    ROWS.append(f"{what}: {shown}, {clock:.1f} s, {cpu:.1f} s of CPU")
    start()


def start() -> None:
    """Take the time from now on."""
    _since[:] = _now()


def _now() -> list[float]:
    return [time.perf_counter(), time.process_time()]


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
