"""Judge with the embedded vision-language model, which only knows ShapesWorld's pictures and words.

It was trained to compare pairs, and follows no rubric.
"""

from dataclasses import dataclass
from pathlib import Path

from editkit.judges.vlm.local import VisionLanguageConfig, VisionLanguageJudge

FOLDER = Path(__file__).resolve().parent.parent / "tiny"


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


CONFIG, JUDGE = TinyConfig, TinyJudge
