"""Behaviour of the Session tab, as a program uses it."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest
from gradio_client import Client, handle_file

import editkit
from demos import device
from demos.compare_form import Form
from demos.device import DeviceWorker
from demos.kept import Kept
from demos.place import Place
from demos.results import Results
from demos.session import Turns
from demos.visit import Visit
from editkit.inference import provenance
from editkit.sessions import store
from editkit.sessions.session import Session
from tests.demos.page_client import PIXELS, RED, words
from tests.demos.test_kept import PICTURE, result
from tests.sessions.results import gray, made, patched


def test_a_session_goes_back_and_forth(client: Client, tmp_path: Path) -> None:
    def turn(name: str, **asked: Any) -> tuple[str, list[str], str]:
        found = client.predict(api_name=f"/session_{name}" if name else "/session", **asked)
        gallery, *_ = (each for each in found if isinstance(each, list) and isinstance(each[0], dict))
        captions = [each["caption"] for each in gallery]
        return words(found[0]), captions, next(words(part) for part in found if "Drift" in str(part))

    assert "no session yet" in words(client.predict(instruction="x", api_name="/session")[0])
    said, captions, _ = turn("", picture=handle_file(RED), instruction="make the red circle blue")
    assert "Turn 1 done" in said
    assert captions == ["0. original", "now: 1. make the red circle blue"]
    said, captions, _ = turn("", instruction="remove the purple star", preserve=False, speed="fast")
    assert "Turn 2 done" in said
    assert captions[2] == "now: 2. remove the purple star"
    assert turn("undo")[1][1] == "now: 1. make the red circle blue"
    assert turn("redo")[1][2] == "now: 2. remove the purple star"
    _, captions, drift = turn("anchor")
    assert captions[3].startswith("now: 3. anchor")
    assert "0.0 of 255" in drift
    for _ in range(3):
        turn("undo")
    assert "nothing to undo" in words(client.predict(api_name="/session_undo")[0])
    exported = client.predict(api_name="/session_export")
    folder, strip = (each for each in exported if str(each).endswith((".zip", "strip.png")))
    with zipfile.ZipFile(folder) as packed:
        assert {"session.json", "strip.png"} <= set(packed.namelist())
        turns = [packed.extract(store.picture_name(number), tmp_path) for number in (1, 2)]
    exact, fast = (provenance.read_recipe(turn)["speed"] for turn in turns)
    assert exact == "exact"
    assert "full_steps" in fast
    assert len(provenance.read_recipe(strip)["session"]) == 1


@pytest.fixture
def place(random_pipeline: Path, tmp_path: Path) -> Place:
    device = DeviceWorker(editkit.load(str(random_pipeline), "cpu"))
    kept = Kept(tmp_path / "kept", personal=True)
    return Place(device=device, visit=None, kept=kept, pixels=PIXELS, adapters={})


def built(place: Place) -> tuple[Turns, Results]:
    """The tabs Session and Results."""
    with gr.Blocks():
        whole = dataclasses.replace(place, visit=gr.State(None))
        turns = Turns(whole)
        return turns, Results(whole, Form({}, None), gr.Tabs(), turns)


def visits(turns: Turns) -> tuple[Visit, Visit]:
    """Two tabs of a browser that are open at a session of one edit."""
    visit, other = Visit(), Visit()
    visit.results["kontext"] = gray(), made(patched(gray(), (8, 8, 20, 20)))
    turns.take(visit, "kontext")
    turns.arrived(other)
    assert other.session is not None
    return visit, other


def test_a_stopped_edit_leaves_the_turn_before_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its preview would else stand there as if it were that turn."""
    for pause in ("TOLD_EVERY", "SHOWN_EVERY", "SHARE"):
        monkeypatch.setattr(device, pause, 0)
    turns, _ = built(place)
    visit = Visit()
    running = turns.edit(visit, "make the red circle blue", {"path": str(RED)})
    preview = next(changes for changes in running if turns.turn.result in changes)
    assert visit.stop is not None
    visit.stop.set()
    *_, stopped = running
    assert "Stopped" in words(stopped[turns.controls.status])
    assert "turn 0" in words(stopped[turns.facts])
    assert stopped[turns.form.new] == gr.update(interactive=True)  # the session has begun
    before, pointed = (Path(each[turns.turn.result]).read_bytes() for each in (stopped, preview))
    assert before != pointed
    assert before == Path(stopped[turns.turn.source]).read_bytes()


def test_two_open_tabs_do_not_damage_a_session(place: Place) -> None:
    turns, _ = built(place)
    visit, other = visits(turns)
    turns.branch(visit, chosen(0))
    assert visit.session is not None
    visit.session.adopt(made(patched(gray(), (8, 8, 20, 20), "white")))
    (said,) = turns.edit(other, "make it blue")
    assert "was changed elsewhere" in words(said[turns.controls.status])
    assert "now: 2" in str(said[turns.history.gallery])
    assert other.session is not None
    assert other.session.current.number == 2
    assert "branches off" in words(turns.branch(other, chosen(1))[turns.controls.status])
    said = turns.branch(visit, chosen(0))
    assert "was changed elsewhere" in words(said[turns.controls.status])
    assert len(editkit.load_session(visit.session.folder, visit.session.editor).turns) == 3


def test_deleted_sessions_are_left_in_every_tab(place: Place) -> None:
    turns, results = built(place)
    visit, other = visits(turns)
    assert other.session is not None
    folder, old = other.session.folder, other.session.turns
    said = results.delete_all(visit)
    assert "deleted" in words(said[results.status])
    assert said[turns.now] == said[turns.past] == gr.update(visible=False)
    assert visit.session is None
    for act in (lambda: turns.branch(other, chosen(0)), lambda: next(turns.edit(other, "make it blue"))):
        other.session = Session(place.device.editor, folder, old, 1)
        said = act()
        assert "is gone" in words(said[turns.controls.status])
        assert said[turns.now] == gr.update(visible=False)
        assert other.session is None
    assert not folder.exists()


def test_a_result_that_is_gone_is_told(place: Place) -> None:
    """What is chosen is what can be used: nothing, not the result before."""
    _, results = built(place)
    visit = Visit()
    place.kept.add(visit, PICTURE, result())
    results.shown(visit)
    (file,) = visit.listed
    assert results.choose(visit, chosen(0))[results.link]
    assert "choose the tab again" in words(results.choose(visit, chosen(1))[results.status])
    assert visit.chosen is None
    assert results.choose(visit, chosen(0))[results.link]
    file.unlink()
    said = results.choose(visit, chosen(0))
    assert "cannot be read any more" in words(said[results.status])
    assert said[results.one] == gr.update(visible=False)
    assert "Choose a result first" in words(results.used(visit)[results.status])


def chosen(index: int) -> gr.SelectData:
    return cast("gr.SelectData", SimpleNamespace(index=index))
