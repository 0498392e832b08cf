"""The interface of judges."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from editkit.errors import EditkitError
from editkit.search_types import Verdict

TIE = ""
TIME_OUT, RATE_LIMIT, NO_CONNECTION = "time-out", "rate limit", "no connection"
REFUSAL, UNREADABLE = "refusal", "unreadable reply"
"""Kinds of questions without a usable answer, by which they are counted."""


class JudgeError(EditkitError):
    """A question to a judge that got no usable answer.

    Args:
        kind: one of the names above.
        sentence: what is wrong and what to do.
    """

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A judge's answer in its own words.

    Attributes:
        text: the words.
        seconds: duration.
        model: the model that an endpoint says has answered; empty where the judge itself knows.
    """

    text: str
    seconds: float
    model: str = ""


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
        follows_rubrics: whether it answers questions in words (`ask`), besides comparing pairs.
        concurrent: whether threads may ask it at once.
    """

    symmetric = False
    needs_source = False
    follows_rubrics = False
    concurrent = False

    @abstractmethod
    def compare(self, case: Case, first: Image.Image, second: Image.Image) -> Verdict:
        """Decide which edit is better."""

    def ask(self, question: str, pictures: Sequence[Image.Image], attempt: int = 0) -> Reply:
        """Answer a question about pictures, which come before it in this order.

        Args:
            question: the text.
            pictures: any number of pictures.
            attempt: number of the attempt; a judge that samples draws another reply for each.

        Raises:
            JudgeError: where there is no answer.
            EditkitError: where the judge only compares pairs.
        """
        raise EditkitError(f"{type(self).__name__} only compares pairs and answers no questions.")

    def identity(self) -> Mapping[str, Any]:
        """Return all that replies depend on, in JSON's types: model, revision, sampling."""
        return {}
