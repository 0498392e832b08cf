"""The records of a search over seeds: verdicts, comparisons and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A judge's answer to one comparison.

    Attributes:
        better: `first`, `second`, or empty for neither.
        reply: the judge's words.
        seconds: duration.
        problem: why the reply could not be used; it then counts as a tie. Empty otherwise.
        lead: how much likelier `first` was than `second`, in log-odds; None where the judge cannot tell.
        seen: what the judge sees in `first` and in `second`, in words; empty where it does not tell.
    """

    better: str
    reply: str
    seconds: float
    problem: str = ""
    lead: float | None = None
    seen: tuple[str, str] = ("", "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A comparison of two seeds' previews; `verdicts` holds one answer, or one for each picture order."""

    seeds: tuple[int, int]
    better: int | None
    verdicts: tuple[Verdict, ...]

    def seen(self, seed: int) -> str:
        """Describe what the judge saw in the preview of one of the seeds, by its surer answer."""
        orders = (self.seeds, self.seeds[::-1])
        verdict, order = max(
            zip(self.verdicts, orders, strict=False), key=lambda each: abs(each[0].lead or 0)
        )
        return verdict.seen[order.index(seed)]


class SearchFindings(Protocol):
    """The findings of a search over seeds."""

    @property
    def previews(self) -> Mapping[int, Image.Image]:
        """The previews that the judge saw, by seed."""

    @property
    def comparisons(self) -> Sequence[Comparison]:
        """The judge's comparisons, in order."""

    @property
    def seed(self) -> int:
        """Seed of the winner."""

    @property
    def steps(self) -> int:
        """Euler steps of all seeds together."""

    def summary(self) -> dict[str, Any]:
        """Return everything but the pictures, in JSON's types."""

    def contact_sheet(self) -> Image.Image:
        """Draw all previews on one picture, with a frame around the winner's."""
