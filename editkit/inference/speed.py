"""How much work an edit saves: settings of saved steps, and the table of measured ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from editkit import config, packages
from editkit.errors import EditkitError, unknown

EXACT = "exact"
MEASURED = ("balanced", "fast")
NAMES = (EXACT, *MEASURED)
TABLE = packages.ROOT / "configs" / "speed.yaml"
"""Settings by backbone, method and name, as benchmarks/editing_speed.py measured them.

`exact` stands where every technique loses too much.
"""
LEAST = {"full_steps": 1, "last_steps": 0, "refresh": 0, "draft": 0, "grow": 0}
"""Least value of each setting that is a number of steps or tokens."""


@dataclass(frozen=True, kw_only=True)
class StepSaving:
    """Settings of steps that compute some tokens only, and take the others' keys and values from before."""

    full_steps: int = 3
    """Number of full steps at the start."""
    last_steps: int = 1
    """Number of full steps at the end."""
    refresh: int = 0
    """Number of saved steps after which a full one comes; 0 for none between start and end."""
    region: bool = True
    """Compute the tokens that the edit changes, and no others; where false, all tokens of the answer."""
    draft: int = 0
    """Number of steps of a draft at half the side, which says before the first full step what the edit
    changes; 0 for none, so that full steps say it. A mask says it better, and no draft is made then."""
    threshold: float = 0.25
    """Difference of latents, whose standard deviation is about 1, from which a token counts as changed."""
    grow: int = 1
    """Number of tokens by which the changed area grows to every side."""

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.draft and not self.region:
            raise ValueError("draft finds a region; leave it out with region=false")
        if not 0 < self.threshold < float("inf"):
            raise ValueError(f"threshold must be positive, not {self.threshold}")

    @property
    def text(self) -> str:
        """The settings as a request's `speed`."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return ",".join(
            f"{name}={str(value).lower() if isinstance(value, bool) else f'{value:g}'}"
            for name, value in values
        )


def check(speed: Any) -> None:
    """Check a request's `speed`.

    Raises:
        EditkitError: where it is neither a name nor settings.
    """
    if not isinstance(speed, str):
        raise EditkitError(f"speed={speed!r} is not allowed; give {', '.join(NAMES)}, or settings key=value.")
    if "=" in speed:
        _read(speed)
    elif speed not in NAMES:
        raise EditkitError(unknown("speed called", speed, NAMES))


def resolve(speed: str, base: str | None, method: str) -> StepSaving | None:
    """Return the settings of a request's `speed` for a backbone's base and a method; None for exact.

    Raises:
        EditkitError: where none were measured for them, or the speed is wrong.
    """
    check(speed)
    if speed == EXACT:
        return None
    if "=" in speed:
        return _read(speed)
    measured = table(TABLE).get(base or "", {}).get(method, {})
    if speed not in measured:
        raise EditkitError(
            f"No settings of speed={speed} were measured for {method} on this backbone; use speed=exact, or "
            f"give settings such as speed={StepSaving().text}."
        )
    found = measured[speed]
    return None if found == EXACT else config.build(StepSaving, found)


def measured(method: str) -> list[str]:
    """Name the speeds besides `exact` that were measured for a method, on any backbone."""
    by_method = (methods.get(method, {}) for methods in table(TABLE).values())
    found = {name for speeds in by_method for name in speeds}
    return [name for name in MEASURED if name in found]


@cache
def table(path: Path) -> dict[str, Any]:
    """Read the table of measured settings."""
    return config.read(path)


def _read(speed: str) -> StepSaving:
    return config.build(StepSaving, {}, [part.strip() for part in speed.split(",")])
