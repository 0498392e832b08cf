"""Looking at results in a real browser: the held source, and zoom of all cards together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.visitor import DESK, PATIENCE, PHONE, choose_sample, compare, only, see, steps

pytestmark = pytest.mark.browser


BOXES = """viewers => viewers.map(viewer => ['.source img', '.result img']
  .map(part => viewer.querySelector(part)?.getBoundingClientRect())
  .map(box => box ? [box.x, box.y, box.width, box.height] : [0, 0, 0, 0]))"""
"""Where source and result of each card are, at one time."""


def compared(page: Page) -> None:
    choose_sample(page, 1)
    only(page, "kontext", "aceplus")
    steps(page, 2)
    see(compare(page), "2 of 2 done")
    expect(page.locator("#compare-results .result img")).to_have_count(2, timeout=PATIENCE)
    expect(page.locator("#compare-results")).to_be_in_viewport()  # the page scrolls there


def transforms(page: Page) -> list[str]:
    pictures: list[str] = page.locator("#compare-results .result img").evaluate_all(
        "images => images.map(image => getComputedStyle(image).transform)"
    )
    return pictures


def at(locator: Locator) -> Any:
    """Middle of an element."""
    box = locator.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_the_source_is_seen_while_held(opened: Callable[..., Page], viewport: dict[str, int]) -> None:
    page = opened(viewport)
    compared(page)
    sources = page.locator("#compare-results .source img:visible")
    expect(sources).to_have_count(0)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.down("b")
    expect(sources).to_have_count(2)
    boxes = page.locator("#compare-results .viewer").evaluate_all(BOXES)
    for source, result in (each for each in boxes if each[0][2]):
        assert source == pytest.approx(result, abs=1.5)
    page.keyboard.up("b")
    expect(sources).to_have_count(0)
    hold = page.locator(".zoombar:visible [data-do=hold]")
    hold.hover()
    page.mouse.down()
    expect(sources).to_have_count(2)
    page.mouse.up()
    expect(sources).to_have_count(0)
    hold.focus()
    page.keyboard.down("Space")
    expect(sources).to_have_count(2)
    page.keyboard.up("Space")
    expect(sources).to_have_count(0)
    page.locator("#compare-instruction textarea").focus()
    page.keyboard.down("b")
    expect(sources).to_have_count(0)
    page.keyboard.up("b")


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_all_cards_zoom_and_move_together(opened: Callable[..., Page], viewport: dict[str, int]) -> None:
    page = opened(viewport)
    compared(page)
    bar = page.locator(".zoombar:visible")
    whole = transforms(page)
    assert whole == [whole[0]] * 2
    bar.get_by_label("Zoom in").press("Enter")
    see(bar.locator("output"), "150%")
    zoomed = transforms(page)
    assert zoomed == [zoomed[0]] * 2
    assert zoomed != whole
    bar.get_by_label("Zoom in").press("ArrowRight")
    moved = transforms(page)
    assert moved[0].rsplit(",", 2)[0] == zoomed[0].rsplit(",", 2)[0]
    assert moved != zoomed
    picture = page.locator("#compare-results .result img").first
    picture.scroll_into_view_if_needed()
    x, y = at(page.locator("#compare-results .result").first)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y + 20, steps=3)
    page.mouse.up()
    dragged = transforms(page)
    assert dragged != moved
    bar.get_by_label("Show whole").click()
    see(bar.locator("output"), "100%")
    assert transforms(page) == whole
    page.locator("#compare-view").get_by_label("Side by side").check()
    expect(page.locator("#compare-results .result img:visible")).to_have_count(0)
    expect(page.locator("#compare-results .viewer img:visible")).to_have_count(2)
    bar.get_by_label("Zoom in").click()
    beside = page.locator("#compare-results .viewer img:visible").evaluate_all(
        "images => images.map(image => getComputedStyle(image).scale + getComputedStyle(image).transform)"
    )
    assert len(beside) == 2
    assert all("1.5" in each for each in beside)
