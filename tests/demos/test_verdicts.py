"""Sentences of the page about a seed search."""

from __future__ import annotations

import re

from PIL import Image

from demos import verdicts
from editkit.inference.seed_search import SearchReport
from editkit.search_types import Comparison, Verdict
from tests.demos.page_client import words

PICTURE = Image.new("RGB", (8, 8))


def said(better: str, seen: tuple[str, str] = ("", ""), lead: float = 0, **told: str) -> Verdict:
    return Verdict(better=better, seconds=0, seen=seen, lead=lead, **{"reply": "9 9 8", **told})


def report(seed: int, *comparisons: Comparison) -> SearchReport:
    seeds = dict.fromkeys(seed for each in comparisons for seed in each.seeds)
    return SearchReport(
        previews=dict.fromkeys(seeds, PICTURE),
        comparisons=comparisons,
        seed=seed,
        steps_by_seed=dict.fromkeys(seeds, 2),
    )


def rows(found: SearchReport) -> list[list[str]]:
    lines = re.findall(r"<tr><td>(.*?)</td></tr>", verdicts.table(found))
    return [[words(cell) for cell in line.split("</td><td>")] for line in lines]


def test_each_seed_s_fate_and_what_the_judge_saw() -> None:
    found = report(
        2,
        Comparison(seeds=(0, 1), better=1, verdicts=(said("second", ("zero", "one")),)),
        Comparison(seeds=(1, 2), better=2, verdicts=(said("second", ("one", "two")),)),
        Comparison(seeds=(2, 3), better=None, verdicts=(said("", ("two", "three")),)),
    )
    assert rows(found) == [
        ["2", "1st choice", "two"],
        ["0", "lost to seed 1", "zero"],
        ["1", "lost to seed 2", "one"],
        ["3", "as good as seed 2", "three"],
    ]
    assert "9 9" not in verdicts.table(found)
    assert verdicts.sentence(found) == "The judge prefers seed 2: it won 1 of its 2 comparisons and drew 1."


def test_of_two_answers_the_surer_one_is_shown() -> None:
    forth, back = said("first", ("zero", "one"), lead=1), said("first", ("ONE", "ZERO"), lead=-4)
    found = report(0, Comparison(seeds=(0, 1), better=0, verdicts=(forth, back)))
    assert rows(found) == [["0", "1st choice", "ZERO"], ["1", "lost to seed 0", "ONE"]]


def test_a_judge_s_own_words_without_its_answer() -> None:
    reply = 'A keeps the <boat>.\n```json\n{"better": "A"}\n```'
    broken = said("", reply="Hm.", problem="the reply names no single answer")
    found = report(0, Comparison(seeds=(0, 1), better=0, verdicts=(said("first", reply=reply), broken)))
    expected = "A keeps the <boat>. (A is seed 0, B is seed 1); the reply names no single answer: Hm."
    assert [row[2] for row in rows(found)] == [expected, expected]


def test_an_answer_alone_leaves_no_words() -> None:
    found = report(1, Comparison(seeds=(0, 1), better=1, verdicts=(said("second", reply='{"better": "B"}'),)))
    assert rows(found) == [["1", "1st choice", ""], ["0", "lost to seed 1", ""]]
