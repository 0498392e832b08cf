"""Files on their way to the page, and those that are no pictures, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.visitor import PATIENCE, SAMPLES, see, tab

pytestmark = pytest.mark.browser


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


def test_a_bad_file_is_named_at_once(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    expect(page.locator("#compare-picture .toolbar-wrap").first).to_be_visible()
    field = page.locator("#compare-picture input[type=file]").first
    field.set_input_files(tmp_path / "bad.png")
    see(page.locator("[role=alert]:visible"), "bad.png is in no picture format")
    field.set_input_files(SAMPLES / "red_circle.png")
    expect(page.locator("[role=alert]:visible")).to_have_count(0)
    page.locator("#compare-picture canvas").first.wait_for()
    tab(page, "Session")
    page.locator("#session-picture input[type=file]").first.set_input_files(tmp_path / "bad.png")
    see(page.locator("#session-picture-said").get_by_role("alert"), "bad.png is in no known picture format")
