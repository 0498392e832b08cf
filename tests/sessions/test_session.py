"""Sessions: a tree of turns that is on disk before anyone sees it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

import editkit
from editkit import EditkitError, EditResult
from editkit.inference import provenance
from editkit.sessions.session import Session
from tests.command_line import files, one_sentence
from tests.pictures import difference, image
from tests.sessions.results import SIZE, gray, made, patched


def test_edit_after_edit(editor: editkit.Editor, tmp_path: Path) -> None:
    source = image(*SIZE)
    session = editor.session(source, tmp_path / "kept")
    assert session.folder == tmp_path / "kept"
    (original,) = session.turns
    assert (original.number, original.parent, original.method, original.recipe) == (0, None, "", {})
    assert difference(original.image, source) == 0
    seen: list[int] = []
    first = session.edit("make it blue", steps=2, seed=3, watch=lambda progress: seen.append(progress.step))
    second = session.edit("add a star", steps=1)
    assert seen == [1, 2]
    assert [turn.number for turn in session.path()] == [0, 1, 2]
    assert session.current is session.turns[2]
    for turn, result in zip(session.turns[1:], (first, second), strict=True):
        assert difference(turn.image, result.image) == 0
        assert turn.recipe == provenance.read_recipe(turn.path)
        beside = {"image": f"turn-{turn.parent:03}.png", "mask": None, "references": []}
        assert turn.recipe == {**result.recipe, "paths": beside}
        assert (turn.instruction, turn.method) == (result.recipe["instruction"], "kontext")
        assert turn.notes == result.notes
    # The second edit started from the first one's picture.
    again = editor.edit(first.image, "add a star", steps=1)
    assert difference(again.image, second.image) == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        session.current.number = 7  # type: ignore[misc]


def test_undo_redo_and_branches(editor: editkit.Editor) -> None:
    session = editor.session(gray())
    for colour in ("black", "white", "red"):
        session.adopt(made(patched(session.current.image, (8, 8, 20, 20), colour), colour))
    assert [session.undo().number for _ in range(3)] == [2, 1, 0]
    with pytest.raises(EditkitError, match="nothing to undo") as refusal:
        session.undo()
    one_sentence(str(refusal.value))
    assert [session.redo().number for _ in range(2)] == [1, 2]
    fourth = session.adopt(made(patched(session.current.image, (8, 8, 20, 20), "blue"), "blue"))
    assert (fourth.number, fourth.parent) == (4, 2)
    with pytest.raises(EditkitError, match="nothing to redo") as refusal:
        session.redo()
    one_sentence(str(refusal.value))
    assert session.branch(1).number == 1
    with pytest.raises(EditkitError, match="nothing to redo"):
        session.redo()
    # What is undone on another branch comes back on that branch.
    session.branch(3)
    assert [session.undo().number, session.undo().number] == [2, 1]
    assert [session.redo().number, session.redo().number] == [2, 3]
    assert len(session.turns) == 5
    assert [turn.instruction for turn in session.path()] == ["original", "black", "white", "red"]
    for number in (-1, 5, "1"):
        with pytest.raises(EditkitError, match=f"no turn {number}; give one from 0 to 4"):
            session.branch(number)  # type: ignore[arg-type]


def test_only_what_was_made_from_the_current_picture_is_adopted(editor: editkit.Editor) -> None:
    session = editor.session(image(*SIZE))
    first = editor.edit(session.current.image, "make it blue", steps=1)
    session.adopt(first)
    before = files(session.folder)
    for result in (
        first,
        made(image(48, 64)),
        EditResult(image=None, method="kontext", seed=0, error="it failed"),
    ):
        with pytest.raises(EditkitError) as refusal:
            session.adopt(result)
        one_sentence(str(refusal.value))
    assert files(session.folder) == before
    session.branch(0)
    session.adopt(first)
    assert len(session.turns) == 3


def same(one: Session, other: Session) -> None:
    assert [turn.entry() for turn in one.turns] == [turn.entry() for turn in other.turns]
    assert [turn.recipe for turn in one.turns] == [turn.recipe for turn in other.turns]
    assert one.current.number == other.current.number
    for mine, theirs in zip(one.turns, other.turns, strict=True):
        assert difference(mine.image, theirs.image) == 0
    assert one.drift() == other.drift()


def test_save_and_load(editor: editkit.Editor, tmp_path: Path) -> None:
    session = editor.session(image(*SIZE))
    session.edit("make it blue", steps=1)
    session.edit("add a star", steps=1)
    session.anchor()
    session.undo()
    saved = session.save(tmp_path / "a" / "saved")
    assert saved == tmp_path / "a" / "saved"
    loaded = editkit.load_session(saved, editor)
    same(loaded, session)
    assert loaded.redo().number == 3
    loaded.edit("remove the circle", steps=1)
    same(editkit.load_session(saved, editor), loaded)
    assert len(session.turns) == 4
    told = provenance.read_recipe(saved / "strip.png")
    assert told == session.recipes()
    assert [each.get("instruction") for each in told["session"]] == [None, "make it blue", "add a star"]
    # Over itself, and over an older copy.
    loaded.save(saved)
    assert len(provenance.read_recipe(saved / "strip.png")["session"]) == 5
    session.save(saved)
    same(editkit.load_session(saved, editor), session)
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_a_session_loads_its_backbone(random_pipeline: Path, tmp_path: Path) -> None:
    chosen = editkit.load(str(random_pipeline), "cpu", options={"kontext": {"sizes": "exact"}})
    session = chosen.session(image(*SIZE), tmp_path / "kept")
    first = session.edit("make it blue", steps=1)
    loaded = editkit.load_session(tmp_path / "kept")
    assert loaded.editor.backbone.name == str(random_pipeline)
    loaded.branch(0)
    again = loaded.edit("make it blue", steps=1)
    assert again.recipe["options"] == first.recipe["options"]
    if again.recipe["device"] == "cpu":
        assert difference(again.image, first.image) == 0


def test_strip_shows_the_path(editor: editkit.Editor) -> None:
    session = editor.session(gray())
    session.adopt(made(Image.new("RGB", SIZE, "red"), "a long instruction of many words that are wrapped"))
    session.adopt(made(Image.new("RGB", SIZE, "blue")))
    strip = session.strip()
    assert strip.width > 3 * SIZE[0]
    assert strip.height > SIZE[1]
    colours = {colour for _, colour in strip.getcolors(strip.width * strip.height) or ()}
    assert {(255, 0, 0), (0, 0, 255), (255, 255, 255)} <= colours
    session.undo()
    assert session.strip().width < strip.width
