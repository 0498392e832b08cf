"""Files on their way to the page, and those that are no pictures, in a real browser."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.browser.visitor import PATIENCE, SAMPLES, compare, only, see, stroke, tab

pytestmark = pytest.mark.browser
PARTS = 3
"""Files of the editor: background, one layer, composite."""
STATES = 4
"""Contents of each at most: as chosen, as the canvas has it, in the middle of a stroke, and after it."""


def test_uploading_is_said_while_it_lasts(opened: Callable[..., Page]) -> None:
    page = opened()
    held: list[Route] = []
    page.route("**/upload?*", lambda route: held.append(route))  # playwright marks what it is given
    tab(page, "Session")
    page.locator("#session-picture input[type=file]").set_input_files(SAMPLES / "red_circle.png")
    see(page.locator("#uploading"), "Uploading")
    expect(page.locator("#session-go")).to_have_attribute("inert", "")
    held[0].continue_()
    expect(page.locator("#session-picture img")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#uploading")).to_be_hidden()
    expect(page.locator("#session-go")).not_to_have_attribute("inert", "")


def test_the_editor_sends_what_it_holds_once(opened: Callable[..., Page]) -> None:
    """Its background, paint and both together, however often they are read; paint arrives all the same."""
    page = opened()
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.url.endswith("/upload") else None)
    page.locator("#compare-picture input[type=file]").first.set_input_files(SAMPLES / "red_circle.png")
    expect(page.locator("#compare-picture .toolbar-wrap").first).to_be_visible(timeout=PATIENCE)
    page.locator("#compare-instruction textarea").fill("make the red circle blue")
    only(page, "kontext")
    stroke(page)
    see(compare(page), "1 of 1 done")
    page.locator("#card-kontext").get_by_text("Recipe", exact=True).click()
    see(page.locator("#card-kontext .cm-content"), '"mask": true')
    assert PARTS <= len(sent) <= STATES * PARTS


def test_paint_after_a_comparison_counts(opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator("#compare-picture input[type=file]").first.set_input_files(SAMPLES / "red_circle.png")
    expect(page.locator("#compare-picture .toolbar-wrap").first).to_be_visible(timeout=PATIENCE)
    page.locator("#compare-instruction textarea").fill("make the red circle blue")
    only(page, "kontext")
    see(compare(page), "1 of 1 done")
    page.locator("#card-kontext").get_by_text("Recipe", exact=True).click()
    see(page.locator("#card-kontext .cm-content"), '"mask": false')
    stroke(page)
    compare(page)
    see(page.locator("#card-kontext .cm-content"), '"mask": true')


@pytest.mark.parametrize("dropped", [False, True], ids=["chosen", "dropped"])
def test_a_picture_waits_for_its_editor(opened: Callable[..., Page], dropped: bool) -> None:
    """Gradio's editor is on the page before its own parts are there, and drops what comes by then."""
    page = opened()
    held: list[Route] = []
    page.route("**/WebGLRenderer*.js", lambda route: held.append(route))  # one of those parts
    page.reload(wait_until="commit")
    field = page.locator("#compare-picture input[type=file]").first
    field.wait_for(state="attached")
    while not held:
        page.wait_for_timeout(100)
    if dropped:
        drop(page, SAMPLES / "red_circle.png")
    else:
        field.set_input_files(SAMPLES / "red_circle.png")
    see(page.locator("#uploading"), "Uploading")
    expect(page.locator("#compare-go")).to_have_attribute("inert", "")
    held[0].continue_()
    expect(page.locator("#uploading")).to_be_hidden()
    page.locator("#compare-instruction textarea").fill("make the red circle blue")
    only(page, "kontext")
    see(compare(page), "1 of 1 done")


def drop(page: Page, path: Path) -> None:
    """Drop a picture on the editor."""
    page.locator("#compare-picture").evaluate(
        """(editor, told) => {
            const bytes = Uint8Array.from(atob(told.data), letter => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], told.name, { type: "image/png" }));
            const place = editor.querySelector("button") ?? editor;
            place.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
        }""",
        {"data": b64encode(path.read_bytes()).decode(), "name": path.name},
    )


def test_a_bad_file_is_named_at_once(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    field = page.locator("#compare-picture input[type=file]").first
    field.set_input_files(tmp_path / "bad.png")
    see(page.locator("[role=alert]:visible"), "bad.png is in no picture format")
    field.set_input_files(SAMPLES / "red_circle.png")
    expect(page.locator("[role=alert]:visible")).to_have_count(0)
    page.locator("#compare-picture canvas").first.wait_for()
    tab(page, "Session")
    page.locator("#session-picture input[type=file]").first.set_input_files(tmp_path / "bad.png")
    see(page.locator("#session-picture-said").get_by_role("alert"), "bad.png is in no known picture format")
