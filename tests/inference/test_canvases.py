"""Compared methods keep the canvas that each was trained on; FLUX.1's shapes stand on the meta device."""

from __future__ import annotations

import pytest

import editkit
from backbones.meta_init import MetaFlux
from backbones.specs import KONTEXT_SIZES
from editkit.imaging.canvas import GRID
from editkit.inference import comparison
from editkit.inference.inputs import prepare
from editkit.types import Canvas
from tests.pictures import image

PICTURES = [(1024, 1024), (1600, 900), (900, 1600), (3000, 1000), (640, 480)]


@pytest.fixture(scope="module")
def editor() -> editkit.Editor:
    return editkit.Editor(MetaFlux("flux1-dev"))


def canvases(editor: editkit.Editor, size: tuple[int, int]) -> dict[str, Canvas]:
    names = ["kontext", "icedit", "aceplus"]
    found = {}
    for request in comparison.requests(editor, image(*size), "make it blue", names):
        method, options = editor.method(request.method)
        editor.backbone.transformer(method.role_under(options))
        plan = method.conditioner(editor.backbone, options).plan_without_text(prepare(request).inputs)
        found[request.method] = plan.canvas
    return found


@pytest.mark.parametrize("size", PICTURES)
def test_each_method_keeps_its_own_canvas(editor: editkit.Editor, size: tuple[int, int]) -> None:
    found = canvases(editor, size)
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
