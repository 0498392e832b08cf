"""Choose the precision of a run where its config leaves it open."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from editkit import precision
from editkit.train import resuming
from editkit.train.distributed import processes


def resolve(settings: Any, checkpoint: Path | None) -> tuple[Any, str | None]:
    """Replace `fit.precision=auto` by bf16 or fp32, the same in all processes.

    Args:
        settings: all settings of the run, a dataclass with a `fit`.
        checkpoint: the checkpoint that the run resumes; its precision stays.

    Returns:
        The settings, and a sentence that says what was chosen and why; None where there was no choice.
    """
    if settings.fit.precision != "auto":
        return settings, None
    chosen = resuming.precision_of(checkpoint) if checkpoint else "auto"
    reason = "as the checkpoint was trained"
    if chosen == "auto":
        chosen, reason = processes.of_first(_timed(settings.fit.device))
    said = f"fit.precision=auto takes {chosen}: {reason}."
    return replace(settings, fit=replace(settings.fit, precision=chosen)), said


def _timed(device: str | None) -> tuple[str, str]:
    """Return the faster precision on a kind of device, and the times in words."""
    times = precision.times(device)
    shown = ", ".join(f"{1000 * seconds:.1f} ms in {name}" for name, seconds in times.items())
    return min(times, key=lambda name: times[name]), f"a block's forward and backward pass takes {shown} here"
