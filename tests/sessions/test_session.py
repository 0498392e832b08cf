"""Sessions: a tree of turns that is on disk before anyone sees it, drift and its cure."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import editkit
from backbones.flux import Flux
from editkit import EditkitError, EditResult
from editkit.inference import provenance
from editkit.sessions.session import Session
from tests.command_line import files, one_sentence
from tests.pictures import difference, image

SIZE = (64, 48)


@pytest.fixture(scope="module")
def editor(random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux)


def made(picture: Image.Image, instruction: str = "by hand", **values: object) -> EditResult:
    """A result whose picture is chosen by the test."""
    return EditResult(image=picture, method="kontext", seed=0, recipe={"instruction": instruction}, **values)


def moved(picture: Image.Image, levels: int) -> Image.Image:
    """All pixels brighter by so many levels."""
    return Image.fromarray((np.array(picture).astype(int) + levels).clip(0, 255).astype(np.uint8))


def patched(picture: Image.Image, box: tuple[int, int, int, int], colour: str = "black") -> Image.Image:
    copied = picture.copy()
    copied.paste(colour, box)
    return copied


def gray(size: tuple[int, int] = SIZE) -> Image.Image:
    """Without black, white or anything near them."""
    values = np.random.default_rng(0).integers(100, 150, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


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
        assert turn.recipe == provenance.read(turn.path)
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


def test_drift_counts_what_no_turn_was_meant_to_change(editor: editkit.Editor) -> None:
    session = editor.session(gray())
    assert session.drift() == 0
    for turn in range(1, 6):
        # A large change, and a little of something everywhere else, which is drift and not a change.
        session.adopt(made(patched(moved(session.current.image, 4), (5 * turn, 8, 5 * turn + 16, 30))))
        assert session.drift() == pytest.approx(4 * turn / 255, abs=1e-6)
    session.branch(2)
    assert session.drift() == pytest.approx(8 / 255, abs=1e-6)


def test_a_mask_says_what_may_change(editor: editkit.Editor) -> None:
    """Though nothing was visibly painted in half of it."""
    session = editor.session(gray())
    mask = Image.new("L", SIZE)
    mask.paste(255, (0, 0, 32, 48))
    brighter = moved(session.current.image, 10)
    session.adopt(made(Image.composite(brighter, session.current.image, mask), change=mask))
    assert session.drift() == 0
    session.branch(0)
    session.adopt(made(Image.composite(brighter, session.current.image, mask)))
    assert session.drift() == pytest.approx(5 / 255, abs=1e-6)


def test_no_pixel_left_to_drift(editor: editkit.Editor) -> None:
    session = editor.session(gray())
    session.adopt(made(Image.new("RGB", SIZE, "white")))
    assert session.drift() == 0


def test_anchor_gives_the_original_back(editor: editkit.Editor) -> None:
    source = gray()
    source.putalpha(Image.linear_gradient("L").resize(SIZE))
    session = editor.session(source)
    colours = source.convert("RGB")
    painted = patched(patched(moved(colours, 6), (8, 8, 24, 24)), (40, 30, 56, 44), "white")
    painted.putalpha(source.getchannel("A"))
    session.adopt(made(painted))
    assert session.drift() > 0.02
    anchored = session.anchor()
    assert (anchored.number, anchored.parent, anchored.method) == (2, 1, "")
    assert session.drift() == 0
    kept, original = np.array(anchored.image), np.array(source)
    assert (kept[:, :, 3] == original[:, :, 3]).all()
    outside = np.ones(SIZE[::-1], dtype=bool)
    outside[4:28, 4:28] = outside[26:48, 36:60] = False
    assert (kept[outside] == original[outside]).all()
    assert (kept[12:20, 12:20, :3] == 0).all()
    assert (kept[34:40, 44:52, :3] == 255 - 6).all()  # less what its surroundings had drifted
    # An anchor changes nothing itself, so that later turns still count what was changed before it.
    session.adopt(made(moved(anchored.image.convert("RGB"), 5)))
    assert session.drift() == pytest.approx(5 / 255, abs=1e-6)


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
    told = provenance.read(saved / "strip.png")
    assert told == session.recipes()
    assert [each.get("instruction") for each in told["session"]] == [None, "make it blue", "add a star"]
    # Over itself, and over an older copy.
    loaded.save(saved)
    assert len(provenance.read(saved / "strip.png")["session"]) == 5
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


def test_folders_that_are_taken(editor: editkit.Editor, tmp_path: Path) -> None:
    session = editor.session(gray(), tmp_path / "kept")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    before = files(tmp_path)
    for attempt, words in (
        (lambda: editor.session(gray(), tmp_path / "kept"), "load_session"),
        (lambda: editor.session(gray(), tmp_path / "mine"), "not empty"),
        (lambda: session.save(tmp_path / "mine"), "not empty"),
        (lambda: session.save(tmp_path / "file"), "is a file"),
        (lambda: editor.session(gray(), tmp_path / "file" / "x"), "is a file"),
    ):
        with pytest.raises(EditkitError, match=words) as refusal:
            attempt()
        one_sentence(str(refusal.value))
    assert files(tmp_path) == before


DAMAGE = {
    "no folder": lambda folder: folder.rename(folder.with_name("elsewhere")),
    "no index": lambda folder: (folder / "session.json").unlink(),
    "half an index": lambda folder: rewrite(folder / "session.json", lambda data: data[: len(data) // 2]),
    "no JSON": lambda folder: rewrite(folder / "session.json", lambda data: b"\xff\xfe"),
    "another JSON": lambda folder: rewrite(folder / "session.json", lambda data: b"[1, 2]"),
    "another format": lambda folder: change(folder, format=2),
    "no such current": lambda folder: change(folder, current=9),
    "odd turns": lambda folder: change(folder, turns=7),
    "no turns": lambda folder: change(folder, turns=[]),
    "missing picture": lambda folder: (folder / "turn-001.png").unlink(),
    "missing change": lambda folder: (folder / "change-001.png").unlink(),
    "half a picture": lambda folder: rewrite(folder / "turn-001.png", lambda data: data[: len(data) // 2]),
    "another picture": lambda folder: image(*SIZE, 5).save(folder / "turn-000.png"),
}


def rewrite(path: Path, content) -> None:
    path.write_bytes(content(path.read_bytes()))


def change(folder: Path, **values: object) -> None:
    path = folder / "session.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_sentence(case: str, editor: editkit.Editor, tmp_path: Path) -> None:
    session = editor.session(gray(), tmp_path / "kept")
    session.adopt(made(patched(gray(), (8, 8, 20, 20))))
    editkit.load_session(tmp_path / "kept", editor)
    DAMAGE[case](tmp_path / "kept")
    with pytest.raises(EditkitError) as refusal:
        editkit.load_session(tmp_path / "kept", editor)
    one_sentence(str(refusal.value))
    assert re.search("kept", str(refusal.value))


def test_a_turn_that_cannot_be_kept_is_not_there(
    editor: editkit.Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = editor.session(gray())
    before = files(session.folder)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(EditkitError, match="free some space"):
            session.adopt(made(patched(gray(), (8, 8, 20, 20))))
    assert files(session.folder) == before
    assert session.current.number == 0
    session.adopt(made(patched(gray(), (8, 8, 20, 20))))
    assert len(editkit.load_session(session.folder, editor).turns) == 2
