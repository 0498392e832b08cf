"""Whether the words that an edit asks for can be read in its result."""

from __future__ import annotations

import importlib.metadata
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from editkit.evaluation.metrics.asked_words import asked_words
from editkit.evaluation.metrics.base import HIGHER, LOWER, Column
from editkit.evaluation.metrics.libraries import imported, torchmetrics
from editkit.evaluation.records import RGB, Case, Item, Scores


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Options of the metric `text`."""

    quotes: bool = True
    """Ask for the last quoted words of an instruction that neither removes nor replaces them, where an
    item does not say which words it wants."""


class ReadText:
    """Reads results by rapidocr and looks for the asked words; case and spaces do not count.

    Raises:
        AbsentMetricError: where rapidocr or its runtime is not installed.
    """

    Config = TextConfig
    name = "text"
    parallel = False
    columns = (
        Column(
            name="words",
            better=HIGHER,
            meaning="share of the asked texts that are read",
            failed=0.0,
            always=False,
        ),
        Column(
            name="cer",
            better=LOWER,
            meaning="character error rate to the nearest line",
            failed=1.0,
            always=False,
        ),
    )

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        imported("onnxruntime")
        torchmetrics()
        package = imported("rapidocr")
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        self._read = package.RapidOCR(params={"Global.log_level": "error"})

    def describe(self) -> Mapping[str, Any]:
        """Reader, weights, and which words are asked for."""
        version = importlib.metadata.version
        return {
            "model": "rapidocr's own detection and recognition, the weights of its package",
            "revision": f"rapidocr {version('rapidocr')}, onnxruntime {version('onnxruntime')}",
            "preprocessing": "rapidocr's own, at the result's size",
            "words": "the item's; else the instruction's last quoted words that it does not remove or replace"
            if self.config.quotes
            else "the item's",
        }

    def asks(self, item: Item, first: RGB | None) -> bool:
        """Return whether an item asks for words."""
        return bool(self._words(item))

    def _words(self, item: Item) -> list[str]:
        return [text for text in map(plain, asked_words(item, self.config.quotes)) if text]

    def score(self, case: Case) -> Scores:
        """Score a case that asks for words."""
        asked = self._words(case.item)
        if not asked:
            return Scores()
        lines = self.lines(case.result)
        joined = plain("".join(lines))
        found = [text in joined for text in asked]
        errors = [_error_rate(text, [plain(line) for line in lines] + [joined]) for text in asked]
        return Scores(
            values={"words": sum(found) / len(found), "cer": sum(errors) / len(errors)},
            notes={"asked": asked, "read": lines},
        )

    def lines(self, picture: RGB) -> list[str]:
        """The lines of text that are read in a picture, in the reader's order."""
        found = self._read(np.ascontiguousarray(picture[..., ::-1]))
        return [str(text) for text in (found.txts or ())]


def plain(text: str) -> str:
    """A text without spaces, its letters in one case."""
    return re.sub(r"\s+", "", text).casefold()


def _error_rate(asked: str, lines: Sequence[str]) -> float:
    from torchmetrics.functional.text import char_error_rate

    return min([1.0, *(float(char_error_rate([line], [asked])) for line in lines if line)])
