"""A judge that scores results under a rubric."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from editkit import judges
from editkit.errors import EditkitError
from editkit.evaluation.metrics.asked_words import asked_words
from editkit.evaluation.metrics.base import HIGHER, Column
from editkit.evaluation.records import RGB, Case, Item, Scores
from editkit.judges.reading import words
from editkit.judges.replies import Replies
from editkit.judges.rubrics import Rubric, load_rubric
from editkit.judges.scoring import Answer, Judged, RubricScorer

LONG = 512
"""Tokens of a reply where the judge's options do not say; a rubric asks for a reason too."""


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """A scoring judge."""

    name: str = ""
    """The judge: `qwen-vl` for a model on this machine, `openai` for an endpoint."""
    rubric: str = ""
    """A rubric's name or the path of its YAML; the benchmark's own, else viescore, where empty."""
    passes: int = 1
    """How often each question is asked; readable answers are averaged."""
    options: dict[str, Any] = field(default_factory=dict)
    """The judge's own options."""
    replies: str = ""
    """Folder of the replies; `judge` in the run's folder where empty. Runs may share one."""

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise ValueError(f"passes must be at least 1, not {self.passes}")


class RubricMetric:
    """Asks a judge the questions of a rubric, and keeps every reply.

    The judge is loaded by `load`, so that a plan can be made without it.

    Raises:
        EditkitError: for an unknown judge, rubric or option, or a judge that only compares pairs.
    """

    Config = JudgeConfig

    def __init__(self, config: JudgeConfig) -> None:
        if not config.name:
            raise EditkitError("The metric judge needs a judge: give --judge qwen-vl or --judge openai.")
        self.config, self.rubric = config, load_rubric(config.rubric)
        self._options = {"max_new_tokens": LONG, **config.options}
        kind = judges.check_rubric_judge(config.name, self._options, config.passes)
        self.name, self.parallel = f"{self.rubric.name} judge", kind.concurrent
        self.columns = columns(self.rubric)
        self._scorer: RubricScorer | None = None

    @property
    def calls(self) -> int:
        """Questions for one result, at most."""
        return len(self.rubric.questions) * self.config.passes

    def load(self) -> None:
        """Load the judge.

        Raises:
            EditkitError: where its model or endpoint is not there.
        """
        if self._scorer is None:
            self._scorer = RubricScorer(
                judge=judges.load_judge(self.config.name, self._options),
                rubric=self.rubric,
                replies=Replies(Path(self.config.replies)),
                passes=self.config.passes,
            )

    @property
    def scorer(self) -> RubricScorer:
        """The loaded judge under its rubric."""
        self.load()
        assert self._scorer is not None
        return self._scorer

    def describe(self) -> Mapping[str, Any]:
        """Judge, model, revision, and the whole rubric."""
        return {
            "judge": self.config.name,
            **self.scorer.judge.identity(),
            "passes": self.config.passes,
            "pictures": "PNG at their own size",
            "rubric": self.rubric.name,
            "rubric digest": hashlib.sha256(json.dumps(asdict(self.rubric)).encode()).hexdigest()[:16],
            "rubric note": self.rubric.note.strip(),
            "questions": "in the files of the replies",
        }

    def asks(self, item: Item, first: RGB | None) -> bool:
        """Return whether the rubric has questions for items that want words, and an item is one."""
        conditional = any(question.only_with for question in self.rubric.questions)
        return conditional and bool(asked_words(item, quotes=True))

    def score(self, case: Case) -> Scores:
        """Score a case; questions without an answer are counted by kind in its notes."""
        shown = {"source": case.source, "result": case.result, "answer": case.answer}
        judged = self.scorer.score(
            {name: Image.fromarray(picture) for name, picture in shown.items() if picture is not None},
            case.item.instruction,
            case.item.category,
            self.asks(case.item, case.first),
        )
        return Scores(values=judged.values, notes=_notes(judged))


def public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A judge's settings without the user, password and query that its endpoint's address may hold."""
    options = dict(settings.get("options", {}))
    if "url" in options:
        options["url"] = re.sub(r"//[^/@]*@", "//", str(options["url"]).partition("?")[0])
    return {**settings, "options": options} if options else dict(settings)


def columns(rubric: Rubric) -> tuple[Column, ...]:
    """One column a question, and the overall one."""
    scale = f"{rubric.lowest:g} to {rubric.highest:g}"
    made = [
        Column(
            name=question.name,
            better=HIGHER,
            meaning=f"{rubric.name}, {question.combine} of {', '.join(question.scores)}, {scale}"
            if len(question.scores) > 1
            else f"{rubric.name}, {question.scores[0]}, {scale}",
            failed=rubric.lowest,
            always=not question.only_with,
        )
        for question in rubric.questions
    ]
    names = ", ".join(column.name for column in made)
    if rubric.overall:
        made.append(
            Column(
                name="overall",
                better=HIGHER,
                meaning=f"{rubric.name}, {rubric.overall} of {names}, {scale}",
                failed=rubric.lowest,
            )
        )
    return tuple(made)


def _notes(judged: Judged) -> dict[str, Any]:
    """Return what a report shows: words, kinds of problems, and the names of all kept replies."""
    if not judged.answers:
        return {}
    made: dict[str, Any] = {
        "said": [_said(answer) for answer in judged.answers],
        "reply": judged.answers[0].reply,
        "replies": [answer.key for answer in judged.answers],
    }
    if judged.problems:
        made["problems"] = judged.problems
        if {answer.question for answer in judged.answers} - judged.values.keys():
            made["error"] = next(answer.sentence for answer in judged.answers if answer.problem)
    if judged.again:
        made["again"] = True
    return made


def _said(answer: Answer) -> str:
    figure = answer.problem or f"{answer.value:g}"
    return f"{answer.question}, {figure}: {words(answer.reply) or answer.sentence}"
