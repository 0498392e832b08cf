"""The embedded judge."""

from __future__ import annotations

import pytest
import torch

import editkit
from backbones.flux import Flux
from editkit import judges
from editkit.judges.vlm.local import VisionLanguageJudge
from editkit.judges.vlm.tiny import FOLDER, PARTS, seen
from editkit.shapesworld import world
from editkit.shapesworld.judge_accuracy import pairwise_accuracy
from editkit.shapesworld.recipes import judge_conversations
from tests.judges.small import WORDS
from tests.pictures import image

ACCURACY = 0.8


@pytest.fixture(scope="module")
def embedded() -> VisionLanguageJudge:
    torch.set_num_threads(1)
    made = judges.load_judge("tiny", {"device": "cpu"})
    assert isinstance(made, VisionLanguageJudge)
    return made


def test_embedded_files() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 16_000_000
    assert not any("_name_or_path" in file.read_text() for file in FOLDER.glob("*.json"))


def test_embedded_accuracy(embedded: VisionLanguageJudge) -> None:
    found = pairwise_accuracy(embedded, 16, graded=True)
    assert found.overall >= ACCURACY


@pytest.mark.slow
@pytest.mark.parametrize(("graded", "least"), [(False, 0.9), (True, 0.87)])
def test_embedded_accuracy_of_many(embedded: VisionLanguageJudge, graded: bool, least: float) -> None:
    assert pairwise_accuracy(embedded, 500, graded=graded).overall >= least


def test_search_asks_in_both_orders(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    search = {"seeds": 3, "judge": "tiny", "options": {"device": "cpu"}}
    found = editor.edit(image(64, 64), WORDS, steps=2, search=search)
    assert [len(comparison.verdicts) for comparison in found.search.comparisons] == [2, 2]
    assert all(not v.problem for c in found.search.comparisons for v in c.verdicts)
    for verdict in found.search.comparisons[0].verdicts:
        assert verdict.seen == seen(verdict.reply)
        assert all(verdict.seen)


@pytest.mark.parametrize(
    ("reply", "first", "second"),
    [
        ("9 9 8 9 9 9 0 1 2 3 4 0", "right everywhere", "wrong everywhere"),
        ("9 9 0 9 9 9 9 7 9 9 0 3", "wrong in the top left; right in the rest",
         "wrong in the bottom left and the bottom right; nearly right in the style; right in the rest"),
        ("0 0 0 5 0 0 5 5 5 5 5 7", "wrong in the background, the style, the top left, the bottom left and "
         "the bottom right; nearly right in the rest", "nearly right everywhere"),
        ("9 9", "", ""),
    ],
)  # fmt: skip
def test_marks_become_words(reply: str, first: str, second: str) -> None:
    assert seen(f'{reply} {{"better": "A"}}') == (first, second)


def test_marks_are_of_the_parts_that_it_learnt() -> None:
    scene = world.Scene(background="red", style="flat", things=())
    assert len(PARTS) == len(judge_conversations.parts(scene))
    assert ("the background", "the style", *(f"the {slot}" for slot in world.SLOTS)) == PARTS
