"""Behaviour of the Seed search tab, as a program uses it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

import editkit
from demos import device, search
from demos.device import DeviceWorker
from demos.kept import Kept
from demos.place import Place
from demos.samples import OPEN
from demos.visit import Visit
from editkit.types import EditRequest
from tests.demos.page_client import PIXELS, RED, words

LEVELS = 4
"""Mean difference of two pictures, of 255 levels, that anybody sees."""


def previews(found: Any) -> list[dict[str, Any]]:
    (gallery,) = (each for each in found if isinstance(each, list) and isinstance(each[0], dict))
    return list(gallery)


def reasons(found: Any) -> str:
    (table,) = (each for each in found if isinstance(each, str) and "<table" in each)
    return str(table)


def test_the_search_that_the_page_starts_with_finds_different_pictures(client: Client) -> None:
    """The page's own picture, instruction, method, judge and number of seeds."""
    picture = handle_file(OPEN.picture)
    found = client.predict(picture=picture, instruction=OPEN.instruction, api_name="/search")
    assert words(found[0]).startswith("Done: seed")
    shown = previews(found)
    pixels = [np.asarray(Image.open(each["image"]).convert("RGB"), float) for each in shown]
    apart = [abs(a - b).mean() for place, a in enumerate(pixels) for b in pixels[:place]]
    assert len(apart) == 6
    assert np.mean(apart) > LEVELS
    assert sum(each["caption"].endswith("1st choice") for each in shown) == 1
    assert " in the " in reasons(found) or "everywhere" in reasons(found)  # as the judge tiny says it
    assert '"better"' not in reasons(found)


def test_search_shows_previews_and_reasons(client: Client) -> None:
    asked = {"instruction": "make the red circle blue", "seeds": 3, "seed": 5, "judge": "preserve"}
    asked |= {"method": "kontext", "speed": "fast"}
    found = client.predict(picture=handle_file(RED), api_name="/search", **asked)
    assert "Done: seed" in words(found[0])
    captions = [each["caption"].split(", ") for each in previews(found)]
    assert [seed for seed, _ in captions] == ["seed 5", "seed 6", "seed 7"]
    assert [fate for _, fate in captions].count("1st choice") == 1
    assert reasons(found).count("of 255 levels") == 3
    finished = client.predict(seed=7, api_name="/search_finish")
    assert words(finished[0]) == "Done: seed 7."
    refused = client.predict(picture=None, instruction="x", seeds=3, api_name="/search")
    assert "There is no picture yet" in words(refused[0])


def built(pipeline: Path, folder: Path) -> search.Search:
    """The tab alone."""
    with gr.Blocks():
        worker = DeviceWorker(editkit.load(str(pipeline), "cpu"))
        kept = Kept(folder, personal=True)
        return search.Search(
            Place(device=worker, visit=gr.State(None), kept=kept, pixels=PIXELS, adapters={})
        )


def test_a_stopped_seed_is_not_offered_as_the_winner(
    random_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preview takes the place of the winner, whose figures and file would else stay beside it."""
    for pause in ("TOLD_EVERY", "SHOWN_EVERY", "SHARE"):
        monkeypatch.setattr(device, pause, 0)
    tab, visit = built(random_pipeline, tmp_path), Visit()
    asked = ({"path": str(RED)}, "make it red", "kontext", 2, "preserve", "continue", 0, 40)
    *_, done = tab.search(visit, *asked)
    assert done[tab.download]["visible"]
    finishing = tab.finished(visit, 1)
    preview = next(changes for changes in finishing if tab.shown.result in changes)
    assert "A preview" in words(preview[tab.facts])
    assert preview[tab.download] == gr.update(visible=False)
    assert visit.stop is not None
    visit.stop.set()
    *_, stopped = finishing
    assert "Stopped" in words(stopped[tab.controls.status])
    assert words(stopped[tab.facts]) == "Not finished."


def test_previews_of_an_earlier_search_cannot_be_finished(random_pipeline: Path, tmp_path: Path) -> None:
    tab = built(random_pipeline, tmp_path)
    asked = EditRequest(image=Image.new("RGB", (8, 8)), instruction="make it blue")
    visit = Visit(search=(asked, {3: Image.new("RGB", (8, 8)), 4: Image.new("RGB", (8, 8))}))
    second, sixth = (cast("gr.SelectData", SimpleNamespace(index=index)) for index in (1, 5))
    assert search.pick(visit, second)[0] == 4
    assert search.pick(visit, sixth) == (None, gr.update(visible=False))
    running = tab.search(visit, {"path": str(RED)}, "make it red", "kontext", 2, "preserve", "continue", 0)
    next(running)
    assert search.pick(visit, second) == (None, gr.update(visible=False))
    (said,) = tab.finished(visit, 4)
    assert "Choose one of the previews first" in said[tab.controls.status]
