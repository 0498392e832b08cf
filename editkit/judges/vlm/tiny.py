"""Judge with the embedded vision-language model, which only knows ShapesWorld's pictures and words.

It was trained to compare pairs, and follows no rubric.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from editkit.judges.base import Case
from editkit.judges.vlm.local import VisionLanguageConfig, VisionLanguageJudge
from editkit.search_types import Verdict

FOLDER = Path(__file__).resolve().parent.parent / "tiny"
PARTS = (
    "the background",
    "the style",
    "the top left",
    "the top right",
    "the bottom left",
    "the bottom right",
)
"""Parts of a picture in the order of a reply, which marks each part of both edits before its answer."""
RIGHT, NEARLY = 8, 5
"""Least marks, of 9, of a part that is right, and of one that is nearly right."""


@dataclass(frozen=True, kw_only=True)
class TinyConfig(VisionLanguageConfig):
    """Options of the embedded judge: those of any local judge, with other defaults."""

    model: str = str(FOLDER)
    max_new_tokens: int = 16
    question: str = "{instruction}"
    """The instruction alone: it was trained without any words around it."""


class TinyJudge(VisionLanguageJudge):
    """The embedded judge, which compares pairs alone."""

    follows_rubrics = False

    def compare(self, case: Case, first: Image.Image, second: Image.Image) -> Verdict:
        """Ask the model which edit is better, and put its marks into words."""
        verdict = super().compare(case, first, second)
        return replace(verdict, seen=seen(verdict.reply))


def seen(reply: str) -> tuple[str, str]:
    """Put the marks of a reply into words for both edits; they are empty where it holds other marks."""
    marks = [int(word) for word in reply.split() if word.isdecimal()]
    if len(marks) != 2 * len(PARTS):
        return "", ""
    return _words(marks[: len(PARTS)]), _words(marks[len(PARTS) :])


def _words(marks: Sequence[int]) -> str:
    """Say which parts of an edit are right."""
    levels: dict[str, list[str]] = {"wrong": [], "nearly right": [], "right": []}
    for part, mark in zip(PARTS, marks, strict=True):
        levels["right" if mark >= RIGHT else "nearly right" if mark >= NEARLY else "wrong"].append(part)
    found = {level: parts for level, parts in levels.items() if parts}
    if len(found) == 1:
        return f"{next(iter(found))} everywhere"
    *said, last = found
    return "; ".join([*(f"{level} in {_listed(found[level])}" for level in said), f"{last} in the rest"])


def _listed(parts: Sequence[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


CONFIG, JUDGE = TinyConfig, TinyJudge
