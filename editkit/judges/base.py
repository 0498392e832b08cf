"""What a judge is asked, and what it answers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from PIL import Image

from editkit.types import Verdict

TIE = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A picture and what was to be done to it; `source` is None for text to image."""

    source: Image.Image | None
    instruction: str


class Judge(ABC):
    """Compares two edits of one case.

    Attributes:
        symmetric: whether the order of the two cannot matter, so that asking once is enough.
        needs_source: whether it cannot judge pictures that were made from text alone.
    """

    symmetric = False
    needs_source = False

    @abstractmethod
    def compare(self, case: Case, first: Image.Image, second: Image.Image) -> Verdict:
        """Which edit is better."""
