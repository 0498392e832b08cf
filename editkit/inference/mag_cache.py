"""Measured ratios of diffusers' MagCache, and its config for the steps of a schedule that are left."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from editkit import config, packages
from editkit.errors import EditkitError
from editkit.inference.speed_settings import MagCache

TABLE = packages.ROOT / "configs" / "mag-ratios.yaml"
"""Ratios by backbone's base and role: the length of each step's residual, relative to the step's before."""


def config_for(settings: MagCache, base: str | None, role: str, steps: int, start: int) -> dict[str, Any]:
    """Return the cache of blocks, as the loading option `cache`, for the steps of a schedule that are left.

    Args:
        settings: what may be skipped.
        base: the backbone's base.
        role: the transformer's role.
        steps: number of steps of the whole schedule.
        start: number of steps that were taken before.

    Raises:
        EditkitError: where no ratios were measured for the base and the role.
    """
    measured = measured_ratios(base, role)
    nearest = np.rint(np.linspace(0, len(measured) - 1, steps)).astype(int)  # as diffusers does
    ratios = np.array(measured)[nearest][start:]
    full = max(0, int(settings.full_share * steps + 0.5) - start)
    return {
        "type": "MagCacheConfig",
        "threshold": settings.threshold,
        "max_skip_steps": settings.most_skipped,
        "retention_ratio": full / max(1, len(ratios)),
        "num_inference_steps": len(ratios),
        "mag_ratios": ratios.tolist(),
    }


def measured_ratios(base: str | None, role: str) -> list[float]:
    """Return the ratios of a base and a role, in the number of steps that they were measured in.

    Raises:
        EditkitError: where there are none.
    """
    found: list[float] | None = _table().get(base or "", {}).get(role)
    if found is None:
        raise EditkitError(
            f"No ratios of MagCache were measured for the role {role!r} of this backbone; use "
            "speed=cache=first_block or speed=cache=taylor_seer."
        )
    return found


@cache
def _table() -> dict[str, Any]:
    return config.read_yaml(TABLE)
