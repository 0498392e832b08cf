"""The embedded judge."""

from __future__ import annotations

import pytest
import torch

import editkit
from backbones.flux import Flux
from editkit import judges
from editkit.judges.vlm.local import VisionLanguageJudge
from editkit.judges.vlm.tiny import FOLDER
from editkit.shapesworld.judge_accuracy import pairwise_accuracy
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
    found = pairwise_accuracy(embedded, 40, graded=True)
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
