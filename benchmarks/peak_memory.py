"""The largest memory that a process holds while it does something."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from pathlib import Path

PROCESS = Path("/proc/self")


def resident_peak(call: Callable[[], object]) -> float:
    """Return the largest resident memory during a call, in bytes: all of the process, its weights included.

    NaN where the system is not Linux, whose kernel alone lets a process start a new peak.
    """
    if not (PROCESS / "clear_refs").is_file():
        return math.nan
    gc.collect()
    (PROCESS / "clear_refs").write_text("5")  # the peak starts at what is resident now
    call()
    lines = (PROCESS / "status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return peak * 1024.0
