"""The names of `speed`, which say how much work an edit saves, and the table of measured settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from editkit import config, notes, packages
from editkit.errors import EditkitError, unknown
from editkit.inference import speed_settings
from editkit.inference.speed_settings import Settings, StepSaving

EXACT = "exact"
MEASURED = ("balanced", "fast")
NAMES = (EXACT, *MEASURED)
TABLE = packages.ROOT / "configs" / "speed.yaml"
"""Settings by backbone, method and name, as benchmarks/editing_speed.py measured them.

`exact` stands where every technique loses too much.
"""


def check_speed(speed: Any) -> None:
    """Check a request's `speed`.

    Raises:
        EditkitError: where it is neither a name nor settings.
    """
    if not isinstance(speed, str):
        raise EditkitError(f"speed={speed!r} is not allowed; give {', '.join(NAMES)}, or settings key=value.")
    if "=" in speed:
        speed_settings.parse(speed)
    elif speed not in NAMES:
        raise EditkitError(unknown("speed called", speed, NAMES))


def resolve(speed: str, base: str | None, method: str) -> Settings | None:
    """Return the settings of a request's `speed` for a backbone's base and a method; None for exact.

    Raises:
        EditkitError: where none were measured for them, or the speed is wrong.
    """
    check_speed(speed)
    if speed == EXACT:
        return None
    if "=" in speed:
        return speed_settings.parse(speed)
    if speed not in measured(base, method):
        raise EditkitError(
            f"No settings of speed={speed} were measured for {method} on this backbone; use speed=exact, or "
            f"give settings such as speed={speed_settings.as_text(StepSaving())}."
        )
    found = table(TABLE)[base or ""][method][speed]
    return None if found == EXACT else speed_settings.build(found)


def measured(base: str | None, method: str) -> list[str]:
    """Name the speeds besides `exact` that were measured for a backbone's base and a method."""
    found = table(TABLE).get(base or "", {}).get(method, {})
    return [name for name in MEASURED if name in found]


def check_steps(speed: str, base: str | None, method: str, steps: int) -> None:
    """Tell a user whose edit has another number of steps than those that a named speed was measured with."""
    if speed not in MEASURED:
        return
    usual = table(TABLE)[base or ""][method]["steps"]
    if steps != usual:
        notes.tell(
            f"speed={speed} was measured with {usual} steps and may lose more with {steps}; compare it with "
            f"speed=exact, or give settings such as speed=full_steps=1,refresh=9."
        )


def name_of(settings: str, base: str | None, method: str) -> str:
    """Return the measured name of settings as a recipe holds them; the settings where none fits."""
    for name in measured(base, method):
        found = resolve(name, base, method)
        if found is not None and speed_settings.as_text(found) == settings:
            return name
    return settings


@cache
def table(path: Path) -> dict[str, Any]:
    """Read the table of measured settings."""
    return config.read_yaml(path)
