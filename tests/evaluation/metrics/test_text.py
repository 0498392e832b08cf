"""Words are read by a real reader with real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from editkit.evaluation.metrics import load_metric
from editkit.evaluation.metrics.asked_words import asked_words
from editkit.evaluation.records import Item
from editkit.evaluation.report import frame
from editkit.evaluation.settings import RunConfig
from tests.evaluation.finished import done, scored
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


@pytest.mark.slow
def test_a_failed_item_that_asks_for_words_counts_none_read(tmp_path: Path) -> None:
    """In a run of one method too, where no other result says that words were asked for."""
    folder = scored(tmp_path, "kontext-bench", {"near": 5}, ["text"])
    config = RunConfig(**folder.settings["config"] | {"out": str(tmp_path / "failed")})
    whole = {row.item["id"]: row.values for row in frame.read_frame(folder).rows}
    Path(folder.edits()["near", "key1"].picture).unlink()
    found = frame.read_frame(done(config))
    assert [name for name, values in whole.items() if values] == ["key1"]
    assert {row.item["id"]: row.values for row in found.rows if row.values} == {
        "key1": {"words": 0, "cer": 1}
    }


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ('replace "SHUT" with "OPEN DOOR"', ("OPEN DOOR",)),
        ("write 'it is' on the wall", ("it is",)),
        ("don't change the dog's colour", ()),
        ("把文字改成“你好”", ("你好",)),
        ("make it blue", ()),
        ('Remove the text "OPEN" from the sign', ()),
        ("erase the letters 'BBQ'", ()),
        ("Don't touch the dog's 'hat'", ()),
        ('Remove the texts "A" and "B"', ()),
        ('Take the "SALE" sticker off, please', ()),
        ('The text "OPEN" should be removed', ()),
        ('show the sign without the word "OPEN"', ()),
        ('change the word "LOVE" to HATE', ()),
        ('replace "SHUT" with a heart', ()),
        ('The word "LOVE" should be changed to HATE', ()),
        ("把“你好”去掉", ()),
        ("把“LOVE”改成HATE", ()),
        ('Remove "OPEN" and write "CLOSED"', ("CLOSED",)),
        ('Remove the cat and make the sign say "HI"', ("HI",)),
        ('Instead of "SALE", write "OPEN"', ("OPEN",)),
        ('Add "SALE" and remove the cat', ("SALE",)),
        ('Change the sign to "OPEN" with white letters', ("OPEN",)),
        ('Change the sky to blue and add "LOVE" to the wall', ("LOVE",)),
        ("删除“A”并写上“B”", ("B",)),
        ("写上“B”并去掉猫", ("B",)),
    ],
)
def test_quoted_words_are_asked_for_where_they_are_to_stay(instruction: str, words: tuple[str, ...]) -> None:
    assert asked_words(Item(id="i", instruction=instruction), True) == words
    assert asked_words(Item(id="i", instruction=instruction), False) == ()
    assert asked_words(Item(id="i", instruction=instruction, words=("x",)), True) == ("x",)
