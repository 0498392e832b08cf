"""Compared methods keep the canvas that each was trained on; FLUX.1's shapes stand on the meta device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import editkit
from backbones.meta_init import MetaFlux
from backbones.specs import KONTEXT_SIZES
from editkit.errors import EditkitError
from editkit.imaging.canvas import GRID
from editkit.inference import comparison
from editkit.inference.inputs import prepare
from editkit.types import Canvas, EditRequest
from tests.command_line import Cli, refused
from tests.pictures import image

METHODS = ["kontext", "icedit", "aceplus"]
PICTURES = [(1024, 1024), (1600, 900), (900, 1600), (3000, 1000), (640, 480)]


@pytest.fixture(scope="module")
def editor() -> editkit.Editor:
    return editkit.Editor(MetaFlux("flux1-dev"))


def canvases(editor: editkit.Editor, requests: list[EditRequest]) -> dict[str, Canvas]:
    found = {}
    for request in requests:
        method, options = editor.method(request.method)
        editor.backbone.transformer(method.role_under(options))
        plan = method.conditioner(editor.backbone, options).plan_without_text(prepare(request).inputs)
        found[request.method] = plan.canvas
    return found


@pytest.mark.parametrize("size", PICTURES)
def test_each_method_keeps_its_own_canvas(editor: editkit.Editor, size: tuple[int, int]) -> None:
    found = canvases(editor, comparison.requests(editor, image(*size), "make it blue", METHODS))
    assert (found["kontext"].width, found["kontext"].height) in KONTEXT_SIZES
    icedit = found["icedit"]
    assert (icedit.width, icedit.answer.width) == (1024, 512)
    aceplus = found["aceplus"]
    assert aceplus.width * aceplus.height <= 4096 * GRID**2
    assert {each.original for each in found.values()} == {size}


def test_a_size_that_is_asked_for_is_everyones(editor: editkit.Editor) -> None:
    requests = comparison.requests(
        editor, image(640, 480), "make it blue", ["kontext", "icedit"], size=(512, 384)
    )
    assert {request.size for request in requests} == {(512, 384)}


def test_the_command_leaves_it_to_them(
    editor: editkit.Editor, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[EditRequest] = []
    make = comparison.requests

    def recorded(*given: Any, **named: Any) -> list[EditRequest]:
        requests[:] = make(*given, **named)
        raise EditkitError("Stopped before any edit.")

    monkeypatch.setattr(comparison, "requests", recorded)
    for size in PICTURES[2:4]:
        image(*size).save(tmp_path / "source.png")
        output = tmp_path / "sheet.png"
        refused(cli("compare", tmp_path / "source.png", "make it blue", "-o", output), "Stopped before")
        asked = make(editor, image(*size), "make it blue", METHODS)
        assert canvases(editor, requests) == canvases(editor, asked)


@pytest.mark.parametrize("size", PICTURES)
def test_the_page_leaves_it_to_them(editor: editkit.Editor, size: tuple[int, int], tmp_path: Path) -> None:
    gr = pytest.importorskip("gradio")
    from gradio_client import handle_file

    from demos.compare import Compare, Requests
    from demos.device import DeviceWorker
    from demos.kept import Kept
    from demos.place import Place
    from demos.visit import Visit

    class Asked(Compare):
        """The tab, but that it keeps what is asked of the device."""

        def _follow(self, visit: Visit, source: Any, requests: Requests, notes: list[str]) -> Any:
            self.asked = requests
            yield from ()

    image(*size).save(tmp_path / "source.png")
    with gr.Blocks():
        kept, visit = Kept(tmp_path / "kept", personal=True), gr.State(None)
        page = Asked(
            Place(device=DeviceWorker(editor), visit=visit, kept=kept, pixels=4_000_000, adapters={})
        )
    picture = {"background": handle_file(tmp_path / "source.png"), "layers": [], "composite": None}
    shown = list(page.compare(Visit(), picture, "make it blue", METHODS))
    assert len(shown) == 1
    found = canvases(editor, [request for _, request in page.asked])
    assert found == canvases(editor, comparison.requests(editor, image(*size), "make it blue", METHODS))
