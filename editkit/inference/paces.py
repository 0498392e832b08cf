"""Choose the pace of a request's `speed`: everything, saved steps, or skipped blocks."""

from __future__ import annotations

from editkit.inference import speed
from editkit.inference.planned_batch import Exact, Pace
from editkit.inference.speed_settings import BlockCache, StepSaving, as_text
from editkit.inference.step_saving import Saving


class BlockCaching(Exact):
    """The pace that computes every token in every step, but for blocks that one of diffusers' caches skips.

    Args:
        settings: which cache.
    """

    def __init__(self, settings: BlockCache) -> None:
        self.cache, self.recipe = settings.loading, as_text(settings)


def choose(request_speed: str, base: str | None, method: str) -> Pace:
    """Return the pace of a request's `speed` for a backbone's base and a method.

    Raises:
        EditkitError: where the speed is wrong, or none was measured for them.
    """
    settings = speed.resolve(request_speed, base, method)
    if settings is None:
        return Exact()
    return Saving(settings) if isinstance(settings, StepSaving) else BlockCaching(settings)
