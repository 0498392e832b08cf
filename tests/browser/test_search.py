"""Behaviour of the Seed search tab in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visitor import (
    PATIENCE,
    loaded,
    see,
)

pytestmark = pytest.mark.browser


def test_a_seed_chosen_by_hand(opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_role("tab", name="Seed search").click()
    loaded(page.locator("#search-picture img:visible"), 1)
    expect(page.locator("#search-instruction textarea")).to_have_value("add a square")
    page.locator("#search-go").click()
    see(page.locator("#search-status"), "Done: seed")
    previews = page.locator("#search-previews .thumbnail-item")
    expect(previews).to_have_count(4, timeout=PATIENCE)
    see(
        page.locator("#search-reasons"),
        re.compile("The judge (prefers seed|saw no difference).*error outside the change", re.DOTALL),
    )
    expect(page.locator("#search-edited")).to_be_in_viewport()
    previews.nth(2).click()
    page.get_by_role("button", name="Finish seed 2").click()
    see(page.locator("#search-status"), "Done: seed 2.")
