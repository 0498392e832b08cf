"""The page at a desk and on a phone: names, keys, contrast, width."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visitor import (
    DESK,
    PHONE,
    choose_sample,
    compare,
    see,
    shoot,
)

pytestmark = pytest.mark.browser

TABS = ("Compare", "Session", "Seed search", "Results", "Train")
CONTRAST = """() => {
  const parse = c => { const n = c.match(/[\\d.]+/g).map(Number);
    const whole = c.startsWith('color(') ? 255 : 1;
    return [...n.slice(0, 3).map(x => whole * x), n[3] ?? 1]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const behind = e => { const layers = [];
    for (; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]); };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || !e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (e.closest('button:disabled, [aria-disabled=true], footer, script, style')) continue;
    const box = e.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const back = behind(e), front = over(parse(getComputedStyle(e).color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const needed = /[\\p{L}\\p{N}]/u.test(text) ? 4.5 : 3;  // symbols are graphics to WCAG 2
    if (ratio < needed) poor.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
NAMELESS = """() => [...document.querySelectorAll('button, input, textarea, select, [role=tab]')]
  .filter(e => e.checkVisibility({ visibilityProperty: true }) && e.type !== 'file' && e.type !== 'hidden')
  .filter(e => e.getBoundingClientRect().width > 2)
  .filter(e => !(e.ariaLabel || e.title || e.innerText?.trim() || e.labels?.[0]?.innerText.trim()
    || document.getElementById(e.getAttribute('aria-labelledby'))?.innerText.trim()
    || [...e.querySelectorAll('img, svg')].some(i => i.alt || i.ariaLabel)))
  .map(e => e.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything(opened: Callable[..., Page], scheme: str) -> None:
    page = opened(PHONE, scheme)
    choose_sample(page)
    see(compare(page), "3 of 3 done")
    for card in page.locator(".card:visible").all():
        card.scroll_into_view_if_needed()
        see(card, "8 steps")
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], tab
        assert page.evaluate(CONTRAST) == [], tab
    page.get_by_role("tab", name="Compare").click()
    left = {round(card.bounding_box()["x"]) for card in page.locator(".card:visible").all()}  # type: ignore[index]
    assert len(left) == 1
    if scheme == "light":
        shoot(page, "page-phone.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_have_names_keys_and_contrast(opened: Callable[..., Page], scheme: str) -> None:
    page = opened(DESK, scheme)
    choose_sample(page)
    for drawer in page.locator(".label-wrap:visible").all():
        drawer.click()
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        assert page.evaluate(NAMELESS) == [], tab
        assert page.evaluate(CONTRAST) == [], tab
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-instruction textarea").focus()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.type"))
    assert {"compare-go", "checkbox"} <= reached
    page.locator("#compare-instruction textarea").press("End")
    page.keyboard.press("Shift+Enter")
    expect(page.locator("#compare-instruction textarea")).to_have_value(re.compile("green\n$"))
    see(page.locator("#compare-status"), "Ready.")
    page.keyboard.press("Enter")
    see(page.locator("#compare-status"), "3 of 3 done")


def test_all_tabs_are_of_one_width(opened: Callable[..., Page]) -> None:
    page = opened()
    places = set()
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        box = page.locator("[role=tabpanel]:visible").first.bounding_box()
        assert box
        places.add((round(box["x"]), round(box["width"])))
    assert len(places) == 1, places
