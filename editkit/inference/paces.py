"""Choose the pace of a request's `speed`: everything, saved steps, or skipped blocks."""

from __future__ import annotations

from typing import Any

from editkit.inference import mag_cache, speed
from editkit.inference.planned_batch import Exact, Pace
from editkit.inference.speed_settings import BlockCache, MagCache, StepSaving, as_text
from editkit.inference.step_saving import Saving


class BlockCaching(Exact):
    """The pace that computes every token in every step, but for blocks that one of diffusers' caches skips.

    Args:
        settings: which cache.
        base: the backbone's base.
    """

    def __init__(self, settings: BlockCache, base: str | None) -> None:
        self.settings, self.base, self.recipe = settings, base, as_text(settings)

    def cache(self, role: str, steps: int, start: int) -> dict[str, Any]:
        """Return the settings' cache."""
        if isinstance(self.settings, MagCache):
            return mag_cache.config_for(self.settings, self.base, role, steps, start)
        return self.settings.loading


def choose(request_speed: str, base: str | None, method: str, role: str) -> Pace:
    """Return the pace of a request's `speed` for a backbone's base, a method and its role.

    Raises:
        EditkitError: where the speed is wrong, or none was measured for them.
    """
    settings = speed.resolve(request_speed, base, method)
    if isinstance(settings, MagCache):
        mag_cache.measured_ratios(base, role)  # refused before anything is loaded
    if settings is None:
        return Exact()
    return Saving(settings) if isinstance(settings, StepSaving) else BlockCaching(settings, base)
