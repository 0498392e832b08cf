"""Behaviour of the Session tab, as a program uses it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from gradio_client import Client, handle_file

from editkit.inference import provenance
from editkit.sessions import store
from tests.demos.page_client import RED, words


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
