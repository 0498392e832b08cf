"""The samples in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from demos.samples import FIRST_TURNS, SAMPLES
from tests.browser.visitor import PATIENCE, compare, loaded, see, tab

pytestmark = pytest.mark.browser


def test_a_sample_brings_all_that_its_edit_needs(opened: Callable[..., Page]) -> None:
    page = opened()
    number, sample = next((place, each) for place, each in enumerate(SAMPLES) if each.referred_to)
    offered = page.locator("#compare-samples .thumbnail-item")
    expect(offered).to_have_count(len(SAMPLES), timeout=PATIENCE)
    offered.nth(number).click()
    expect(page.locator("#compare-instruction textarea")).to_have_value(sample.instruction, timeout=PATIENCE)
    expect(page.locator("#compare-methods input:checked")).to_have_count(len(sample.methods))
    page.locator("#compare-picture canvas").first.wait_for()
    loaded(page.locator("#compare-sample-paint img:visible"), 1)
    see(compare(page), "1 of 1 done")
    page.locator(f"#card-{sample.methods[0]}").get_by_text("Recipe", exact=True).click()
    recipe = page.locator(f"#card-{sample.methods[0]} .cm-content")
    see(recipe, '"mask": true')
    see(recipe, '"references": 1')


def test_a_session_starts_from_a_sample_by_itself(opened: Callable[..., Page]) -> None:
    page = opened()
    tab(page, "Session")
    page.locator("#session-samples .thumbnail-item").nth(0).click()
    expect(page.locator("#session-instruction textarea")).to_have_value(
        FIRST_TURNS[0].instruction, timeout=PATIENCE
    )
    page.locator("#session-instruction textarea").press("Enter")
    see(page.locator("#session-status"), "Turn 1 done")
    history = page.locator("#session-history .thumbnail-item")
    expect(history).to_have_count(2, timeout=PATIENCE)
    page.reload()
    expect(page.locator("#compare-go")).to_be_enabled(timeout=PATIENCE)
    tab(page, "Session")
    see(page.locator("#session-status"), "Your session as you left it")
    expect(history).to_have_count(2, timeout=PATIENCE)
    page.locator("#session-instruction textarea").fill(FIRST_TURNS[1].instruction)
    page.locator("#session-go").click()
    see(page.locator("#session-status"), "Turn 2 done")
    page.locator("#session-new").click()
    see(page.locator("#session-status"), "A new session")
    page.locator("#session-samples .thumbnail-item").nth(1).click()
    expect(page.locator("#session-picture img")).to_be_visible(timeout=PATIENCE)
    page.locator("#session-go").click()
    see(page.locator("#session-status"), "Turn 1 done")
    earlier = page.locator("#session-earlier .thumbnail-item")
    expect(earlier).to_have_count(2, timeout=PATIENCE)
    see(earlier.nth(1), "2 edits")
    earlier.nth(1).click()
    see(page.locator("#session-status"), "Your session as you left it")
    expect(history).to_have_count(3, timeout=PATIENCE)
