"""Sessions whose folder is taken, damaged or full."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

import editkit
from editkit import EditkitError
from tests.command_line import files, one_sentence
from tests.pictures import image
from tests.sessions.results import SIZE, gray, made, patched


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
        (lambda: editor.session(gray(), tmp_path / ("x" * 300)), "too long"),
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
    "deep JSON": lambda folder: rewrite(folder / "session.json", lambda data: b"[" * 100_000),
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


def test_a_session_that_was_changed_elsewhere_loses_nothing(editor: editkit.Editor, tmp_path: Path) -> None:
    session = editor.session(gray(), tmp_path / "kept")
    session.adopt(made(patched(gray(), (8, 8, 20, 20))))
    stale = editkit.load_session(tmp_path / "kept", editor)
    session.adopt(made(patched(session.current.image, (8, 8, 20, 20), "white")))
    before = files(tmp_path)
    for attempt in (
        lambda: stale.adopt(made(patched(stale.current.image, (8, 8, 20, 20), "red"))),
        lambda: stale.edit("make it blue", steps=1),
        stale.anchor,
        stale.undo,
        lambda: stale.branch(0),
    ):
        with pytest.raises(EditkitError, match="changed elsewhere; load it again") as refusal:
            attempt()
        one_sentence(str(refusal.value))
    assert files(tmp_path) == before
    assert stale.current.number == 1
    again = editkit.load_session(tmp_path / "kept", editor)
    assert [turn.number for turn in again.turns] == [0, 1, 2]
    again.undo()
    assert again.redo().number == 2


def test_a_session_whose_folder_is_gone_is_not_made_again(editor: editkit.Editor, tmp_path: Path) -> None:
    session = editor.session(gray(), tmp_path / "kept")
    session.adopt(made(patched(gray(), (8, 8, 20, 20))))
    shutil.rmtree(tmp_path / "kept")
    for attempt in (session.undo, lambda: session.branch(0), lambda: session.edit("make it blue", steps=1)):
        with pytest.raises(EditkitError, match=r"kept is gone \(No such file or directory\)") as refusal:
            attempt()
        one_sentence(str(refusal.value))
    assert not (tmp_path / "kept").exists()


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
