"""Behaviour of the Seed search tab in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visitor import (
    PATIENCE,
    SAMPLES,
    loaded,
    see,
)

pytestmark = pytest.mark.browser


def test_a_seed_chosen_by_hand(opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_role("tab", name="Seed search").click()
    page.locator("#search-picture input[type=file]").set_input_files(SAMPLES / "red_circle.png")
    loaded(page.locator("#search-picture img:visible"), 1)
    page.locator("#search-instruction textarea").fill("make the red circle blue")
    page.locator("#search-go").click()
    see(page.locator("#search-status"), "Done: seed")
    previews = page.locator("#search-previews .thumbnail-item")
    expect(previews).to_have_count(4, timeout=PATIENCE)
    see(page.locator("#search-reasons"), "error outside the change")
    previews.nth(2).click()
    page.get_by_role("button", name="Finish seed 2").click()
    see(page.locator("#search-status"), "Done: seed 2.")
