"""Settings of a request's `speed`: saved steps, or blocks that diffusers' caches skip."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeAlias

from editkit import config
from editkit.errors import EditkitError, unknown


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
    changes; 0 for none, so that full steps say it. A mask says it better, and no draft is made then, nor
    without a picture to edit."""
    threshold: float = 0.25
    """Difference of latents, whose standard deviation is about 1, from which a token counts as changed."""
    grow: int = 1
    """Number of tokens by which the changed area grows to every side."""
    context: str | None = None
    """How source and references attend, instead of the method's option `context`: `joint` or `cached`."""

    def __post_init__(self) -> None:
        _check_least(self, {"full_steps": 1, "last_steps": 0, "refresh": 0, "draft": 0, "grow": 0})
        _check_positive(self.threshold)
        if self.context not in (None, "joint", "cached"):
            raise ValueError(f"context must be joint or cached, not {self.context!r}")
        if self.draft and not self.region:
            raise ValueError("draft finds a region; leave it out with region=false")


@dataclass(frozen=True, kw_only=True)
class FirstBlock:
    """Settings of diffusers' FirstBlockCache, for `cache=first_block`.

    Where the first block's output changed little since the last full step, the other blocks are skipped.
    """

    threshold: float = 0.1
    """Relative change of the first block's output below which the other blocks are skipped."""

    def __post_init__(self) -> None:
        _check_positive(self.threshold)

    @property
    def loading(self) -> dict[str, Any]:
        """The loading option `cache` that does the same."""
        return {"type": "FirstBlockCacheConfig", "threshold": self.threshold}


@dataclass(frozen=True, kw_only=True)
class TaylorSeer:
    """Settings of diffusers' TaylorSeerCache, for `cache=taylor_seer`: it extrapolates between full steps."""

    full_steps: int = 3
    """Number of full steps at the start."""
    interval: int = 3
    """Number of steps from one full step to the next."""
    order: int = 1
    """Highest order of the Taylor series."""

    def __post_init__(self) -> None:
        _check_least(self, {"full_steps": 1, "interval": 2, "order": 1})

    @property
    def loading(self) -> dict[str, Any]:
        """The loading option `cache` that does the same."""
        return {
            "type": "TaylorSeerCacheConfig",
            "disable_cache_before_step": self.full_steps,
            "cache_interval": self.interval,
            "max_order": self.order,
        }


@dataclass(frozen=True, kw_only=True)
class MagCache:
    """Settings of diffusers' MagCache, for `cache=mag`.

    It skips all blocks in steps that, by ratios measured before, add about as much as the step before them.
    """

    threshold: float = 0.06
    """Error, summed over steps in a row, up to which blocks are skipped."""
    most_skipped: int = 3
    """Largest number of steps in a row whose blocks are skipped."""
    full_share: float = 0.2
    """Share of the steps, at the start, that are full."""

    def __post_init__(self) -> None:
        _check_least(self, {"most_skipped": 1})
        _check_positive(self.threshold)
        if not 0 <= self.full_share <= 1:
            raise ValueError(f"full_share must lie in [0, 1], not {self.full_share}")


BlockCache: TypeAlias = FirstBlock | TaylorSeer | MagCache
Settings: TypeAlias = StepSaving | BlockCache
CACHES: dict[str, type[BlockCache]] = {"first_block": FirstBlock, "taylor_seer": TaylorSeer, "mag": MagCache}
"""Settings by the value of `cache`; without one they are those of saved steps."""


def parse(speed: str) -> Settings:
    """Read settings from `key=value`, with commas between.

    Raises:
        EditkitError: for an unknown key, one that is given twice, or a value of the wrong type or range.
    """
    pairs = [tuple(side.strip() for side in part.split("=", 1)) for part in speed.split(",")]
    if any(len(pair) < 2 for pair in pairs):
        raise EditkitError(f"speed={speed} is not allowed; give settings as key=value, with commas between.")
    parts, keys = ["=".join(pair) for pair in pairs], [pair[0] for pair in pairs]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise EditkitError(f"speed={speed} gives {twice} more than once; give it once.")
    caches = [part for part in parts if part.startswith("cache=")]
    named = {"cache": caches[0].removeprefix("cache=")} if caches else {}
    return build(named, [part for part in parts if part not in caches])


def build(values: dict[str, Any], overrides: list[str] | None = None) -> Settings:
    """Make settings from their values by key, as `as_values` gives them.

    Raises:
        EditkitError: for an unknown key, or a value of the wrong type or range.
    """
    name = values.get("cache")
    if name is not None and name not in CACHES:
        raise EditkitError(unknown("cache called", str(name), list(CACHES)))
    own = {key: value for key, value in values.items() if key != "cache"}
    kind: type[Settings] = StepSaving if name is None else CACHES[name]
    return config.build(kind, own, overrides or [])


def as_values(settings: Settings) -> dict[str, Any]:
    """Return all settings by key, but for those that are left to the method."""
    own = {key: value for key, value in dataclasses.asdict(settings).items() if value is not None}
    names = [name for name, kind in CACHES.items() if isinstance(settings, kind)]
    return {"cache": names[0], **own} if names else own


def as_text(settings: Settings) -> str:
    """Return settings as a request's `speed`."""
    return ",".join(f"{name}={_written(value)}" for name, value in as_values(settings).items())


def _written(value: str | bool | float) -> str:
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)  # all digits: a recipe repeats them


def _check_least(settings: Any, least: dict[str, int]) -> None:
    for name, bound in least.items():
        if getattr(settings, name) < bound:
            raise ValueError(f"{name} must be at least {bound}, not {getattr(settings, name)}")


def _check_positive(threshold: float) -> None:
    if not 0 < threshold < float("inf"):
        raise ValueError(f"threshold must be positive, not {threshold}")
