"""Behaviour of Compare's drawers in a real browser: what is asked for hangs on what is written alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

import editkit
from tests.browser.visitor import DESK, PATIENCE, PHONE, frames, late_frames, see, steps, tab

pytestmark = pytest.mark.browser

NUMBERS = {
    "Steps": "3",
    "How closely to follow the words": "2.5",
    "How much under the paint is redrawn, 0 to 1": "0.5",
}


def sent(page: Page, name: str = "compare") -> list[Any]:
    """What a tab's button sends without a picture, which is refused."""

    def asks(request: Any) -> bool:
        return "/queue/join" in request.url and len(request.post_data_json["data"]) > 8

    with page.expect_request(asks, timeout=PATIENCE) as request:
        page.locator(f"#{name}-go").click()
    see(page.locator(f"#{name}-status").get_by_role("alert"), "There is no picture yet")
    page.locator(f"#{name}-go:enabled").wait_for()
    found: list[Any] = request.value.post_data_json["data"]
    return found


def field(page: Page, label: str) -> Locator:
    """The first field of this label; Gradio puts a field's explanation into its label, too."""
    labels = page.locator("label:visible", has=page.get_by_text(label, exact=True))
    return labels.locator("input, textarea").first


def test_opening_a_drawer_changes_no_request(opened: Callable[..., Page]) -> None:
    page = opened()
    page.locator("#compare-instruction textarea").fill("make it blue")
    closed = sent(page)
    for drawer in page.locator(".label-wrap:visible").all():
        drawer.click()
    fields = {label: field(page, label) for label in NUMBERS}
    fields["Steps"].wait_for()
    assert sent(page) == closed
    for label, number in NUMBERS.items():
        fields[label].fill(number)
    filled = sent(page)
    assert sorted(now for now, then in zip(filled, closed, strict=True) if now != then) == ["0.5", "2.5", "3"]
    for each in fields.values():
        each.fill("")
    emptied = sent(page)
    assert emptied == closed
    assert [value for value in closed if type(value) in (int, float)] == [0]  # the seed's


def test_what_is_typed_into_a_drawer_just_opened_stays(opened: Callable[..., Page]) -> None:
    """Gradio fills new fields twice, the second time in a later frame."""
    page = opened()
    page.locator("#compare-instruction textarea").fill("make it blue")
    late_frames(page, 500)
    steps(page, 1000)
    frames(page, 3)
    assert "1000" in sent(page)
    expect(field(page, "Steps")).to_have_value("1000")


def test_what_is_typed_into_a_tab_just_opened_stays(opened: Callable[..., Page]) -> None:
    page = opened()
    late_frames(page, 500)
    tab(page, "Seed search")
    instruction = page.locator("#search-instruction textarea")
    instruction.fill("make it blue")
    frames(page, 3)
    expect(instruction).to_have_value("make it blue")


def test_opening_the_drawer_of_a_seed_search_changes_no_request(opened: Callable[..., Page]) -> None:
    page = opened()
    tab(page, "Seed search")
    page.locator("#search-picture").get_by_label("Remove Image").click()
    closed = sent(page, "search")
    page.locator(".label-wrap:visible", has_text="More").click()
    steps = field(page, "Steps")
    steps.wait_for()
    assert sent(page, "search") == closed
    steps.fill("3")
    filled = sent(page, "search")
    assert [now for now, then in zip(filled, closed, strict=True) if now != then] == ["3"]
    steps.fill("")
    assert sent(page, "search") == closed


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_a_drawer_shows_three_options_and_the_rest_to_experts(
    opened: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = opened(viewport)
    for method in editkit.methods():
        drawer = page.locator(f"#options-{method.name}")
        drawer.locator(".label-wrap").first.click()
        shown = drawer.locator("input:visible, textarea:visible")
        expect(shown).to_have_count(len(method.main_options))
        for label in method.main_options.values():
            see(drawer, label)
        drawer.get_by_text("Expert", exact=True).click()
        see(drawer.get_by_text("true cfg", exact=True), "true cfg")
