"""The record of a rubric."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from editkit import config
from editkit.errors import EditkitError, unknown

FOLDER = Path(__file__).parent
RUBRICS = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
"""Names of the rubrics that come with editkit."""
PICTURES = ("source", "result", "answer")
COMBINATIONS = ("min", "mean")
OVERALL = ("", "geometric mean", "mean")
WORDS = "words"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Another wording of a question, for one category."""

    text: str
    """The whole question."""
    scores: list[str]
    """Names of the figures in its answer."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question; its answer holds one or several figures, which give one column."""

    name: str
    """The column."""
    text: str
    """The question; {instruction} stands for the edit in words."""
    pictures: list[str] = field(default_factory=lambda: ["source", "result"])
    """What is shown, in order: source, result, answer."""
    scores: list[str]
    """Names of the figures in the answer: `NAME: 7`, `"NAME": 7`, or in this order `"score": [7, 8]`."""
    combine: str = "min"
    """How several figures make one: min or mean."""
    only_with: str = ""
    """`words`: asked only where an item wants words to be readable."""
    variants: dict[str, Variant] = field(default_factory=dict)
    """What is asked instead, by category."""

    def __post_init__(self) -> None:
        if strange := [each for each in self.pictures if each not in PICTURES]:
            raise ValueError(f"pictures must be among {', '.join(PICTURES)}, not {strange[0]!r}")
        if self.combine not in COMBINATIONS:
            raise ValueError(f"combine must be min or mean, not {self.combine!r}")
        if self.only_with not in ("", WORDS):
            raise ValueError(f"only_with must be {WORDS} or empty, not {self.only_with!r}")
        for scores in (self.scores, *(each.scores for each in self.variants.values())):
            if not scores:
                raise ValueError(f"the question {self.name} names no scores")

    def variant(self, category: str) -> Variant:
        """Its wording for a category."""
        return self.variants.get(category) or Variant(text=self.text, scores=self.scores)

    def combined(self, scores: list[float]) -> float:
        """One figure of an answer's figures."""
        return min(scores) if self.combine == "min" else sum(scores) / len(scores)


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """A rubric, as its YAML says it."""

    name: str
    """What it is called by."""
    title: str = ""
    """Its published name."""
    paper: str = ""
    """Its paper."""
    note: str = ""
    """What a person should know before trusting its figures."""
    lowest: float = 0.0
    """The worst figure, which a result without a picture counts."""
    highest: float = 10.0
    """The best figure."""
    questions: list[Question]
    """What is asked, one by one."""
    overall: str = ""
    """How columns make one called `overall`: `geometric mean` (√ab of two), `mean`, or empty for none."""

    def __post_init__(self) -> None:
        if not self.lowest < self.highest:
            raise ValueError(f"lowest must be below highest, not {self.lowest:g} and {self.highest:g}")
        if self.overall not in OVERALL:
            raise ValueError(f"overall must be geometric mean, mean or empty, not {self.overall!r}")
        if self.overall == "geometric mean" and self.lowest < 0:
            raise ValueError("a geometric mean needs figures from 0 on")
        names = [question.name for question in self.questions]
        if not names or len(set(names)) < len(names) or "overall" in names:
            raise ValueError("questions must have names, each its own and none of them overall")

    def overall_of(self, columns: dict[str, float]) -> float | None:
        """The overall figure; None where the rubric has none or a column is missing."""
        values = [columns[question.name] for question in self.questions if question.name in columns]
        if not self.overall or len(values) < len(self.questions):
            return None
        if self.overall == "mean":
            return sum(values) / len(values)
        product = 1.0
        for value in values:
            product *= value
        return float(product ** (1 / len(values)))


def load_rubric(name: str) -> Rubric:
    """A rubric by name, or by the path of its YAML.

    Raises:
        EditkitError: for an unknown name or key, or a value out of range.
    """
    own = name.endswith((".yaml", ".yml"))
    if not own and name not in RUBRICS:
        raise EditkitError(unknown("rubric called", name, RUBRICS))
    return config.build(Rubric, config.read_yaml(name if own else FOLDER / f"{name}.yaml"))
