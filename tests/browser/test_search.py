"""Behaviour of the Seed search tab in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from demos.samples import OPEN
from tests.browser.visitor import DESK, PATIENCE, PHONE, loaded, see, shoot, tab

pytestmark = pytest.mark.browser


def test_the_first_search_and_a_seed_chosen_by_hand(opened: Callable[..., Page]) -> None:
    """With what the page starts with; the judge's verdict is in words, and no reply of the model is shown."""
    page = opened()
    tab(page, "Seed search")
    loaded(page.locator("#search-picture img:visible"), 1)
    expect(page.locator("#search-instruction textarea")).to_have_value(OPEN.instruction)
    page.locator("#search-go").click()
    see(page.locator("#search-status"), "Done: seed")
    previews = page.locator("#search-previews .thumbnail-item")
    expect(previews).to_have_count(4, timeout=PATIENCE)
    see(page.locator("#search-previews"), "1st choice")
    reasons = page.locator("#search-reasons")
    expect(reasons.locator("tbody tr")).to_have_count(4)
    see(reasons.locator("tbody tr").first, "1st choice")
    for row in reasons.locator("tbody tr").all():
        assert "right" in row.inner_text() or "wrong" in row.inner_text()
    assert "better" not in reasons.inner_text()
    shoot(page, "search.png")
    expect(page.locator("#search-edited")).to_be_in_viewport()
    previews.nth(2).click()
    page.get_by_role("button", name="Finish seed 2").click()
    see(page.locator("#search-status"), "Done: seed 2.")


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("name", ["Session", "Seed search"])
def test_a_tab_offers_the_speeds_of_the_chosen_method(
    opened: Callable[..., Page], name: str, viewport: dict[str, int]
) -> None:
    page = opened(viewport)
    tab(page, name)
    if name == "Seed search":
        page.locator(".label-wrap:visible", has_text="More").click()
    box = page.get_by_label("Speed", exact=True).locator("visible=true")
    expect(box).to_have_value("exact")
    box.click()
    for offered in ("exact", "balanced", "fast"):
        expect(page.get_by_role("option", name=offered, exact=True)).to_be_visible()
    page.get_by_role("option", name="fast", exact=True).click()
    expect(box).to_have_value("fast")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
