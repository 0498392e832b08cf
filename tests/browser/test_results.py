"""Behaviour of the Results tab in a real browser."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from editkit.inference import provenance
from tests.browser.visitor import (
    DESK,
    PATIENCE,
    PHONE,
    choose_sample,
    compare,
    loaded,
    only,
    see,
    shoot,
    steps,
    tab,
)

pytestmark = pytest.mark.browser

INSTRUCTION = "make the orange square green"


def result(page: Page, seed: int = 5) -> None:
    """Make one result, and look at it in Results."""
    choose_sample(page)
    only(page, "kontext")
    page.locator("#compare-seed input").fill(str(seed))
    steps(page, 2)
    see(compare(page), "1 of 1 done")
    tab(page, "Results")
    expect(page.locator("#results-gallery .thumbnail-item")).to_have_count(1, timeout=PATIENCE)


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_a_past_result_gives_its_settings_again(
    opened: Callable[..., Page], viewport: dict[str, int]
) -> None:
    page = opened(viewport)
    result(page)
    see(page.locator("#results-gallery .thumbnail-item"), INSTRUCTION)
    page.locator("#results-gallery .thumbnail-item").click()
    see(page.locator("#results-facts"), "seed 5")
    loaded(page.locator("#results-one img:visible"), 1)
    if viewport == DESK:
        shoot(page, "page-results.png")
    page.reload()
    expect(page.locator("#compare-go")).to_be_enabled(timeout=PATIENCE)
    tab(page, "Results")
    page.locator("#results-gallery .thumbnail-item").click()
    see(page.locator("#results-facts"), "2 steps")
    page.locator("#results-use").click()
    see(page.locator("#compare-status"), "The settings of your result")
    expect(page.locator("#compare-instruction textarea")).to_have_value(INSTRUCTION)
    expect(page.locator("#compare-seed input")).to_have_value("5")
    expect(page.locator("#compare-methods input:checked")).to_have_count(1)
    page.locator("#compare-picture canvas").first.wait_for()
    see(compare(page), "1 of 1 done")


def test_a_link_gives_the_settings_and_nothing_else(opened: Callable[..., Page]) -> None:
    page = opened()
    result(page)
    page.locator("#results-gallery .thumbnail-item").click()
    field = page.locator("#results-link textarea, #results-link input").first
    expect(field).not_to_have_value("", timeout=PATIENCE)
    link = field.input_value()
    assert link.startswith(page.url)
    asked = parse_qs(urlsplit(link).query)
    assert asked["instruction"] == [INSTRUCTION]
    assert not [value for values in asked.values() for value in values if "/" in value]
    page.goto(f"{link}&kontext_nonesuch=1&icedit_adapter=/etc/passwd&seed=x")
    status = page.locator("#compare-status")
    see(status, "The settings of the link")
    for word in ("kontext_nonesuch is no setting", "icedit_adapter=/etc/passwd is none of"):
        see(status, word)
    expect(page.locator("#compare-instruction textarea")).to_have_value(INSTRUCTION)
    expect(page.locator("#compare-methods input:checked")).to_have_count(1)
    page.goto(link)
    see(status, "The settings of the link")
    expect(page.locator("#compare-seed input")).to_have_value("5")


def test_each_browser_sees_its_own_results(opened: Callable[..., Page]) -> None:
    page, other = opened(), opened()
    result(page)
    tab(other, "Results")
    see(other.locator(".blank:visible"), "No results yet")
    expect(other.locator("#results-gallery .thumbnail-item:visible")).to_have_count(0)


def test_all_results_are_one_download_and_can_be_deleted(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened()
    result(page)
    page.locator("#results-pack").click()
    with page.expect_download(timeout=PATIENCE) as download:
        page.locator("#results-zip").click()
    with zipfile.ZipFile(download.value.path()) as packed:
        names = packed.namelist()
        (made,) = (name for name in names if name.startswith("results/"))
        assert len([name for name in names if name.startswith("sources/")]) == 1
        assert provenance.read_recipe(packed.extract(made, tmp_path))["instruction"] == INSTRUCTION
    page.locator("#results-delete").click()
    page.locator("#results-delete-sure").click()
    see(page.locator("#results-status"), "deleted")
    see(page.locator(".blank:visible"), "No results yet")
