"""Sentences of the page about what cannot be done, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visitor import PATIENCE, choose_sample, compare, only, see, steps, tab
from tests.pictures import image

pytestmark = pytest.mark.browser


def test_problems_are_said_on_the_page(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened()
    compare(page)
    see(page.locator("#compare-instruction-problem"), "The instruction is empty")
    expect(page.locator("[role=alert]:visible")).to_have_count(1)
    page.locator("#compare-instruction textarea").fill("x")
    see(compare(page).get_by_role("alert"), "There is no picture yet")
    choose_sample(page)
    expect(page.locator("#compare-instruction textarea")).not_to_have_value("x", timeout=PATIENCE)
    page.locator("#compare-instruction textarea").fill("make the unicorn blue")
    see(compare(page), "does not know the word unicorn")
    page.get_by_role("tab", name="Session").click()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.locator("#session-picture input[type=file]").set_input_files(tmp_path / "bad.png")
    page.locator("#session-picture img").first.wait_for(state="attached")
    page.locator("#session-instruction textarea").fill("x")
    page.locator("#session-go").click()
    see(page.locator("#session-status").get_by_role("alert"), "bad.png is in no known picture format")


def test_an_empty_instruction_and_a_photograph(opened: Callable[..., Page], tmp_path: Path) -> None:
    """The first at its field, before anything runs; the second while its edit runs, with what to do."""
    page = opened()
    see(page.locator("body"), re.compile(r"tiny on cpu, float32, \d+ GB free"))
    for name, title in (("session", "Session"), ("search", "Seed search")):
        tab(page, title)
        page.locator(f"#{name}-instruction textarea").fill("")
        page.locator(f"#{name}-go").click()
        see(page.locator(f"#{name}-instruction-problem"), "The instruction is empty")
        expect(page.locator("[role=alert]:visible")).to_have_count(1)
    tab(page, "Compare")
    image(160, 120).save(tmp_path / "photo.png")
    page.locator("#compare-picture input[type=file]").first.set_input_files(tmp_path / "photo.png")
    page.locator("#compare-picture canvas").first.wait_for()
    page.locator("#compare-instruction textarea").fill("make the red circle blue")
    only(page, "kontext")
    steps(page, 1000)
    status = compare(page)
    see(status, "as photographs have")
    see(status, "For photographs use the backbone 'flux1-dev'")
    see(status, "of 1000")
    assert "1 of 1 done" not in status.inner_text()
    page.locator("#compare-stop").click()
    see(status, "Stopped.")
