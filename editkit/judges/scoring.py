"""Score one result under a rubric: ask, read, average."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from PIL import Image

from editkit.judges.base import UNREADABLE, Judge, JudgeError
from editkit.judges.reading import figures
from editkit.judges.replies import Replies
from editkit.judges.rubrics import Question, Rubric
from editkit.judges.rubrics.record import WORDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The outcome of one question, once asked.

    Attributes:
        question: its name.
        key: the name of its reply among the kept ones.
        reply: the judge's words; empty where there are none.
        value: the figure; None where there is none.
        problem: the kind of the problem, if any.
        sentence: what is wrong, if anything.
    """

    question: str
    key: str
    reply: str = ""
    value: float | None = None
    problem: str = ""
    sentence: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A result's figures and all answers behind them.

    Attributes:
        values: figures by column.
        answers: one for each question and pass.
    """

    values: Mapping[str, float]
    answers: tuple[Answer, ...]

    @property
    def problems(self) -> dict[str, int]:
        """Numbers of problems by kind."""
        return dict(Counter(answer.problem for answer in self.answers if answer.problem))

    @property
    def again(self) -> bool:
        """Whether a question has no reply, and should be asked again."""
        return any(answer.problem not in ("", UNREADABLE) for answer in self.answers)


@dataclass(frozen=True, kw_only=True)
class RubricScorer:
    """A judge under a rubric.

    Attributes:
        judge: answers questions.
        rubric: the questions.
        replies: keeps the answers.
        passes: how often each question is asked; the readable answers are averaged, column by column.
    """

    judge: Judge
    rubric: Rubric
    replies: Replies
    passes: int = 1

    def score(
        self, pictures: Mapping[str, Image.Image], instruction: str, category: str = "", words: bool = False
    ) -> Judged:
        """Score a result; a question whose pictures are missing is not asked.

        Args:
            pictures: those that there are of source, result and answer.
            instruction: the edit in words.
            category: chooses a question's variant.
            words: whether words are asked for.
        """
        answers, values = list[Answer](), dict[str, float]()
        for question in self.rubric.questions:
            if set(question.pictures) - set(pictures) or (question.only_with == WORDS and not words):
                continue
            found = list(self._answers(question, pictures, instruction, category))
            answers += found
            figures_of = [answer.value for answer in found if answer.value is not None]
            if figures_of:
                values[question.name] = sum(figures_of) / len(figures_of)
        overall = self.rubric.overall_of(values)
        if overall is not None:
            values["overall"] = overall
        return Judged(values=values, answers=tuple(answers))

    def _answers(
        self, question: Question, pictures: Mapping[str, Image.Image], instruction: str, category: str
    ) -> Iterator[Answer]:
        wording = question.variant(category)
        text = wording.text.replace("{instruction}", instruction)
        shown = {name: pictures[name] for name in question.pictures}
        judge = self.judge.identity()
        for attempt in range(self.passes):
            key = self.replies.key(judge, text, list(shown.values()), attempt)
            reply = self.replies.get(key)
            try:
                if reply is None:
                    reply = self.judge.ask(text, list(shown.values()), attempt)
                    self.replies.put(key, reply, judge=judge, question=text, pictures=shown, attempt=attempt)
                scores = figures(reply.text, wording.scores, self.rubric.lowest, self.rubric.highest)
            except JudgeError as error:
                yield Answer(
                    question=question.name,
                    key=key,
                    reply="" if reply is None else reply.text,
                    problem=error.kind,
                    sentence=str(error),
                )
            else:
                yield Answer(
                    question=question.name, key=key, reply=reply.text, value=question.combined(scores)
                )
