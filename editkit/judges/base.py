"""The interface of judges."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from PIL import Image

from editkit.search_types import Verdict

TIE = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A source picture and its instruction; `source` is None for text to image."""

    source: Image.Image | None
    instruction: str


class Judge(ABC):
    """Compares two edits of one case.

    Attributes:
        symmetric: whether the picture order cannot matter, so that asking once is enough.
        needs_source: whether the judge needs a source picture, and so cannot judge text to image.
    """

    symmetric = False
    needs_source = False

    @abstractmethod
    def compare(self, case: Case, first: Image.Image, second: Image.Image) -> Verdict:
        """Decide which edit is better."""
