"""Rubrics: their records, and how figures are read from replies."""

from __future__ import annotations

from pathlib import Path

import pytest

from editkit.errors import EditkitError
from editkit.judges.base import JudgeError
from editkit.judges.reading import figures, words
from editkit.judges.rubrics import RUBRICS, load_rubric

PAIR = ["success", "restraint"]


@pytest.mark.parametrize(
    "reply",
    [
        '{"reason": "fine", "success": 8, "restraint": 6.5}',
        '```json\n{"success": 8,\n "restraint": 6.5}\n```',
        "success: 8\nrestraint: 6.5",
        "**Success**: 8\n**Restraint:** 6.5",
        'SUCCESS = 8, restraint = "6.5"',
        '{"score": [8, 6.5], "reasoning": "x"}',
        '{"score": "[8, 6.5]"}',
        '{"score": ["8", "6.5"]}',
        "score: ['8', 6.5]",
        "output score = [8.0,6.5]",
        "<think>success: 1, no, score: [2, 2]</think> success: 8 restraint: 6.5",
        "success: 8/10\nrestraint: 6.5/10, so success: 8",
    ],
)
def test_figures_are_read(reply: str) -> None:
    assert figures(reply, PAIR, 0, 10) == [8, 6.5]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "no figure for success: it is empty"),
        ("I cannot help with that.", "no figure for success"),
        ('{"success": 8}', "no figure for restraint"),
        ("success: 8 restraint: 6, or rather success: 9", "two different figures for success"),
        ("success: 11 restraint: 6", "success 11, which is not from 0 to 10"),
        ("success: -1 restraint: 6", "success -1, which is not"),
        ('{"score": [8, 6, 7]}', "no figure for success"),
        ('{"score": ["8 of 10", "6"]}', "no figure for success"),
        ("unsuccess: 8 restraint: 6", "no figure for success"),
        ("success: 8.5.1 restraint: 6", "no figure for success"),
        ("success: 8th restraint: 6", "no figure for success"),
        ("success: nan restraint: 6", "no figure for success"),
        ("\x1b[2J\x1b]0;title\x07", "no figure for success"),
    ],
)
def test_rubbish_is_no_figure(reply: str, why: str) -> None:
    with pytest.raises(JudgeError) as caught:
        figures(reply, PAIR, 0, 10)
    assert why in str(caught.value)
    assert str(caught.value).isprintable()
    assert caught.value.kind == "unreadable reply"


def test_a_list_in_the_published_order_of_imgedit() -> None:
    reply = (
        "Brief reasoning: ok.\nPrompt Compliance: 4\nVisual Naturalness: 3\nPhysical & Detail Integrity: 2."
    )
    names = load_rubric("imgedit").questions[0].scores
    assert figures(reply, names, 1, 5) == [4, 3, 2]


@pytest.mark.parametrize("name", RUBRICS)
def test_rubrics_ask_for_what_they_read(name: str) -> None:
    """Each question names its figures, shows the instruction where it needs one, and fits its own example."""
    rubric = load_rubric(name)
    assert rubric.name == name
    assert rubric.title
    assert rubric.note
    for question in rubric.questions:
        wordings = [question.variant(category) for category in ("", *question.variants)]
        for wording in wordings:
            assert all(score.lower() in wording.text.lower() for score in wording.scores)
            assert ("{instruction}" in wording.text) or question.pictures == ["result"]


def test_viescore_is_the_root_of_the_two_minima() -> None:
    rubric = load_rubric("viescore")
    semantics, quality = rubric.questions
    assert [semantics.combined([8, 5]), quality.combined([9, 9])] == [5, 9]
    assert rubric.overall_of({"sc": 4, "pq": 9}) == pytest.approx(6)
    assert rubric.overall_of({"sc": 0, "pq": 9}) == 0
    assert rubric.overall_of({"sc": 4}) is None


def test_imgedit_is_a_mean_by_kind_of_edit() -> None:
    rubric = load_rubric("imgedit")
    (question,) = rubric.questions
    assert question.combined([5, 4, 3]) == 4
    assert question.variant("style").scores == ["Style Fidelity", "Content Preservation", "Rendering Quality"]
    assert question.variant("a kind that is not known").scores == question.scores


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"lowest": 10}, "lowest must be below highest"),
        ({"overall": "median"}, "overall must be"),
        ({"questions": []}, "questions must have names"),
        ({"questions": [{"name": "a", "text": "t", "scores": []}]}, "names no scores"),
        ({"questions": [{"name": "a", "text": "t", "scores": ["x"], "combine": "max"}]}, "combine must be"),
        ({"questions": [{"name": "a", "text": "t", "scores": ["x"], "pictures": ["mask"]}]}, "pictures must"),
        ({"question": []}, "did you mean 'questions'"),
    ],
)
def test_rubrics_of_ones_own_are_checked(tmp_path: Path, change: dict, why: str) -> None:
    import yaml

    written = {"name": "mine", "questions": [{"name": "a", "text": "t", "scores": ["x"]}], **change}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(written))
    with pytest.raises(EditkitError, match=why):
        load_rubric(str(path))


def test_unknown_rubrics_are_named() -> None:
    with pytest.raises(EditkitError, match="did you mean 'viescore'"):
        load_rubric("viescor")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ('{"reason": " It is blue. ", "success": 8}', "It is blue."),
        ('```json\n{"score": [8, 4], "reasoning": "Blue {now}."}\n```', "Blue {now}."),
        ('{"reason": "old"}</think>{"reason": "new"}', "new"),
        ("Brief reasoning: blue.\nPrompt Compliance: 4", "Brief reasoning: blue.\nPrompt Compliance: 4"),
        ('{"reason": "cut o', '{"reason": "cut o'),
        ('{"success": 8}', '{"success": 8}'),
        ("", ""),
        ('{"a":' * 100_000, '{"a":' * 100_000),
    ],
    ids=lambda text: str(len(text)),
)
def test_what_a_judge_says_beside_its_figures(reply: str, said: str) -> None:
    assert words(reply) == said
