"""Words are read by a real reader with real weights."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from editkit.evaluation.metrics import load_metric
from editkit.evaluation.metrics.text import asked_words
from editkit.evaluation.records import Item
from tests.evaluation.metrics.cases import case, photograph


def written(text: str) -> np.ndarray:
    picture = Image.new("RGB", (320, 96), "white")
    ImageDraw.Draw(picture).text((16, 24), text, fill="black", font=ImageFont.load_default(size=40))
    return np.asarray(picture)


@pytest.fixture(scope="module")
def reader():
    return load_metric("text")


@pytest.mark.slow
def test_words_are_read(reader) -> None:
    found = reader.score(case(written("OPEN DOOR"), words=("open door",)))
    assert found.values == {"words": 1, "cer": 0}
    assert found.notes["asked"] == ["opendoor"]
    wrong = reader.score(case(written("OPEN DOOR"), 'replace "SHUT" with "CLOSED"')).values
    assert wrong["words"] == 0
    assert wrong["cer"] > 0.5
    near = reader.score(case(written("OPEN FLOOR"), words=("OPEN DOOR",))).values
    assert near["words"] == 0
    assert 0 < near["cer"] <= 0.3


@pytest.mark.slow
def test_pictures_without_words(reader) -> None:
    found = reader.score(case(photograph("chelsea"), words=("cat",))).values
    assert found["words"] == 0
    assert found["cer"] == 1
    assert not reader.score(case(photograph("chelsea"), "make it blue")).values


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ('replace "SHUT" with "OPEN DOOR"', ("OPEN DOOR",)),
        ("write 'it is' on the wall", ("it is",)),
        ("don't change the dog's colour", ()),
        ("把文字改成“你好”", ("你好",)),
        ("make it blue", ()),
    ],
)
def test_quoted_words_are_asked_for(instruction: str, words: tuple[str, ...]) -> None:
    assert asked_words(Item(id="i", instruction=instruction), True) == words
    assert asked_words(Item(id="i", instruction=instruction), False) == ()
    assert asked_words(Item(id="i", instruction=instruction, words=("x",)), True) == ("x",)
