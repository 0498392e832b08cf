"""Settings of a search over seeds. Importing this loads neither torch nor judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from editkit import config
from editkit.errors import EditkitError, unknown
from editkit.request import SearchSettings

MODES = ("continue", "restart")


@dataclass(frozen=True, kw_only=True)
class SeedSearch:
    """Settings of a search over seeds."""

    seeds: int = 8
    """Try this many seeds and keep the one that a judge prefers. They count up from the request's seed."""
    judge: str = "preserve"
    """Name of the judge: preserve, tiny, qwen-vl or openai."""
    mode: str = "continue"
    """How to finish the winner: continue from its preview, or restart its edit."""
    preview_steps: int | None = None
    """Number of steps of a preview; if not given, a quarter of all steps, rounded up."""
    both_orders: bool = True
    """Show each pair to the judge in both orders, or in one. Of two answers the surer one counts.
    Contradicting answers are a tie where the judge cannot tell how sure it is."""
    options: dict[str, Any] = field(default_factory=dict)
    """Option of the judge."""

    def __post_init__(self) -> None:
        from editkit.judges import JUDGES

        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {self.seeds}")
        if self.mode not in MODES:
            raise ValueError(f"mode must be continue or restart, not {self.mode!r}")
        if self.judge not in JUDGES:
            raise ValueError(unknown("judge", self.judge, JUDGES).rstrip("."))
        if self.preview_steps is not None and self.preview_steps < 1:
            raise ValueError(f"preview_steps must be at least 1, not {self.preview_steps}")


def build(search: SearchSettings | Mapping[str, Any]) -> SeedSearch:
    """Make a `SeedSearch` from one or from a dict of its fields.

    Raises:
        EditkitError: for an unknown field or a value out of range.
    """
    if isinstance(search, SeedSearch):
        search = asdict(search)  # made in Python, where nothing has checked its types yet
    if not isinstance(search, Mapping):
        raise EditkitError(f"search={search!r} is not allowed; give a SeedSearch or a dict of its fields.")
    return config.build(SeedSearch, search)
