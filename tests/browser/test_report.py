"""The report of a run in a browser: a file that asks nobody for anything, to filter and to sort."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from editkit.evaluation.benchmarks import open_benchmark
from editkit.evaluation.report import files
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests.browser.visitor import DESK, PATIENCE, PHONE
from tests.evaluation import samples
from tests.evaluation.finished import PIXELS, done

pytestmark = pytest.mark.browser
ITEMS = 30


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two methods on thirty items, one result that is missing, and a method without a readable picture."""
    folder = tmp_path_factory.mktemp("report")
    data = samples.jsonl(folder / "data", ITEMS)
    benchmark = open_benchmark("jsonl", data)
    results = {
        name: str(samples.copied_results(benchmark, folder / name, change))
        for name, change in (("near", 5), ("far", 30), ("lost", 0))
    }
    for each in (folder / "lost").glob("*.png"):
        each.write_bytes(b"no picture")
    (folder / "far" / "item 7.png").unlink()
    config = RunConfig(
        benchmark="jsonl", data=str(data), results=results, metrics=PIXELS, out=str(folder / "run")
    )
    found = done(config)
    files.write(found.path)
    return found


def opened(chromium: Browser, run: RunFolder, viewport: dict[str, int]) -> tuple[Page, list[str]]:
    """The page, and what it asked for or complained of."""
    page = chromium.new_context(viewport=viewport).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url))
    page.goto((run.path / "report.html").absolute().as_uri())
    return page, problems


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_a_report_is_filtered_and_sorted(viewport: dict[str, int], chromium: Browser, run: RunFolder) -> None:
    page, problems = opened(chromium, run, viewport)
    count, rows = page.locator("#count"), page.locator("#items tbody tr")
    expect(count).to_have_text(f"50 of {3 * ITEMS} results")
    page.locator("#more").click()  # fifty more than there are
    expect(count).to_have_text(f"{3 * ITEMS} of {3 * ITEMS} results")
    page.locator("#method").select_option("far")
    expect(rows).to_have_count(ITEMS)
    page.locator("#category").select_option("odd")
    expect(rows).to_have_count(ITEMS // 2)
    page.locator("#words").fill("item 7")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("There is no result at item 7.png.")
    page.locator("#words").fill("")
    sort = page.locator("#items thead button", has_text="l1")
    for arrow, reverse in (("ascending", False), ("descending", True)):
        sort.click()
        expect(sort.locator("..")).to_have_attribute("aria-sort", arrow)
        figures = rows.locator("td:nth-child(5)").all_text_contents()
        assert figures[-1] == ""  # what failed stands at the end both ways
        numbers = list(map(float, figures[:-1]))
        assert numbers == sorted(numbers, reverse=reverse)
        assert len(set(numbers)) > 1
    summary = page.locator("table[data-sort]").first
    summary.locator("thead button", has_text="l1").click()
    assert summary.locator("tbody td:first-child").all_text_contents() == ["near", "far", "lost"]
    summary.locator("thead button", has_text="l1").click()
    assert summary.locator("tbody td:first-child").all_text_contents() == ["far", "near", "lost"]
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    pictures = page.locator("details[open] figure img")
    assert pictures.count() > 0
    assert pictures.evaluate_all("all => all.every(each => each.complete && each.naturalWidth > 0)")
    assert [each for each in problems if not each.startswith(("file:", "data:"))] == []
    page.context.close()
