"""Figures that stand in pages: found, filled in, and compared with what is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import page_tables, tables
from benchmarks.page_sources import PAGE_SOURCES, TASKS, PageSource
from benchmarks.page_tables import PageTable
from benchmarks.table_sources import share
from editkit.evaluation.report.statistics import Estimate

PAGE = """# A page

| category | examples | success | aimed at | sharp | aimed at |
| --- | --- | --- | --- | --- | --- |
| overall | 20 | 0.900 | 0.93 | 0.500 | |
| local | 10 | 0.800 | 0.95 | 0.400 | 0.85 |

| adapter | all |
| --- | --- |
| LoRA | 0.900 / 0.500 |

Words.
"""


def measured(success: float) -> PageTable:
    rows = {
        "overall": {"success": (share(success, 20),), "sharp": (share(0.5, 20),)},
        "local": {"success": (share(0.8, 10),), "sharp": (share(0.4, 10),)},
    }
    return PageTable(first="category", rows=rows, examples={"overall": 30, "local": 15})


def test_the_same_figures_are_not_off() -> None:
    assert not list(page_tables.differences("page", PAGE, measured(0.9)))


def test_a_wrong_published_figure_is_off() -> None:
    """0.9 of 20 has the interval 0.70 to 0.97."""
    (off,) = page_tables.differences("page", PAGE.replace("0.900 |", "0.600 |"), measured(0.9))
    assert off == "page, overall, success: 0.600 against 0.900 [0.699, 0.972]"
    assert not list(page_tables.differences("page", PAGE.replace("0.900 |", "0.700 |"), measured(0.9)))
    (off,) = page_tables.differences("page", PAGE.replace("0.900 |", "good |"), measured(0.9))
    assert off == "page, overall, success: 'good' is not 1 figures"


def test_each_of_several_figures_of_a_cell_counts() -> None:
    both = PageTable(first="adapter", rows={"LoRA": {"all": (share(0.9, 20), share(0.5, 20))}})
    assert not list(page_tables.differences("page", PAGE, both))
    wrong = PAGE.replace("0.900 / 0.500", "0.900 / 0.100")
    (off,) = page_tables.differences("page", wrong, both)
    assert off.startswith("page, LoRA, all: 0.900 / 0.100 against 0.900 [")


def test_what_is_not_measured_is_named() -> None:
    table = PageTable(first="category", rows={"overall": {"blurred": (share(0.9, 20),)}})
    assert list(page_tables.differences("page", PAGE, table)) == [
        "page, local: not measured; take more examples, or the row out",
        "page: blurred was measured and is no column of the page",
    ]


def test_filling_in_changes_measured_cells_alone() -> None:
    made = page_tables.filled(PAGE, measured(0.95))
    assert "| overall | 30 | 0.950 | 0.93 | 0.500 | |\n" in made
    assert "| local | 15 | 0.800 | 0.95 | 0.400 | 0.85 |\n" in made
    changed = [pair for pair in zip(PAGE.splitlines(), made.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(changed) == 2
    assert not list(page_tables.differences("page", made, measured(0.95)))


def test_two_tables_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="2 tables have the first column 'category'"):
        page_tables.places(PAGE + PAGE, "category")


@pytest.mark.parametrize("name", PAGE_SOURCES)
def test_the_page_tells_the_command_and_its_examples(name: str) -> None:
    source = PAGE_SOURCES[name]
    page = tables.PAGES[0].read_text()
    first, *others = source.commands(source.n)
    assert f"`{first}`" in page
    for command in others:
        assert any(f"`{command[command.index(word) :]}`" in page for word in ("--option", "--n"))


def report(n: int) -> dict:
    """A report of `editkit eval shapesworld`, by its names."""
    row = {"n": n, "success": 0.5, "sharp": 0.25}
    return {
        "n": n,
        "overall": row,
        "categories": dict.fromkeys(
            ("local", "global", "text", "style reference", "character reference"), row
        ),
        "kinds": dict.fromkeys(
            ("recolour", "remove", "replace", "add", "move", "background", "style", "letter"), row
        ),
        "compound": row,
        "sessions": {**row, "drift": [0.01] * 5, "drift_error": [0.001] * 5},
    }


def masked(n: int) -> dict:
    row = {"n": n, "success": 0.5, "sharp": 0.25}
    kinds = dict.fromkeys(("add", "recolour", "remove", "replace"), row)
    return {"n": n, "kinds": {name: {**row, "kinds": kinds} for name in TASKS}}


@pytest.mark.parametrize(
    ("name", "made", "first"),
    [("kontext", report, "category"), ("icedit", report, "adapter"), ("aceplus", masked, "task")],
)
def test_every_row_of_the_published_pages_is_measured(name: str, made, first: str) -> None:
    """Whatever the figures are: no row or column of a page is left out, and each cell can be read."""
    source: PageSource = PAGE_SOURCES[name]
    found = source.read([made(40)] * len(source.commands(40)))
    assert found[0].first == first
    for table in found:
        for page in page_tables.published(tables.PAGES, table):
            text = page.read_text()
            filled = page_tables.filled(text, table)
            assert not list(page_tables.differences(page.name, filled, table))
            cells = {(place.row, place.column) for place in page_tables.places(filled, table.first)}
            own = {(row, column) for row, each in table.rows.items() for column in each}
            assert cells & own
            for place in page_tables.places(text, table.first):
                if (place.row, place.column) in own:
                    assert "not 1 figures" not in place.text


def test_drift_has_an_interval_of_two_standard_errors() -> None:
    drift = PAGE_SOURCES["kontext"].read([report(40)])[2]
    (row,) = drift.rows.values()
    assert row["5"] == (Estimate(mean=0.01, low=pytest.approx(0.008), high=pytest.approx(0.012), n=40),)


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Copies of what is published."""
    (tmp_path / "assets").mkdir()
    for name, copy in (("PAGE", "tables.md"), ("FIGURES", "assets/tables.json"), ("OUT", "out")):
        monkeypatch.setattr(tables, name, tmp_path / copy)
    page = tmp_path / "tiny.md"
    page.write_text(tables.PAGES[0].read_text())
    monkeypatch.setattr(tables, "PAGES", (page,))
    return page, tmp_path / "assets" / "tables.json"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Run `benchmarks.tables`; why it failed, if it did."""
    monkeypatch.setattr("sys.argv", ["tables", *arguments])
    try:
        tables.main()
    except SystemExit as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_a_wrong_figure_fails_the_check(pages: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured for real: of what was just published, the one figure that is off fails, and no other."""
    _, figures = pages
    assert "autoencoder: not published" in command(monkeypatch, "--check", "autoencoder")
    assert not command(monkeypatch, "autoencoder")
    told = json.loads(figures.read_text())
    cell = told["autoencoder"]["rows"]["tiny"][1]
    width = cell["high"] - cell["low"]
    for end in ("mean", "low", "high"):
        cell[end] += 2 * width
    figures.write_text(json.dumps(told))
    assert "1 figures are off by more than their intervals" in command(monkeypatch, "--check", "autoencoder")


@pytest.mark.slow
def test_a_wrong_figure_of_a_page_fails_the_check(
    pages: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four edits and two sessions, measured for real; of what they measure, only what is wrong is off."""
    page, _ = pages
    assert not command(monkeypatch, "--n", "4", "kontext")
    text = page.read_text()
    (cell,) = [p for p in page_tables.places(text, "category") if (p.row, p.column) == ("overall", "success")]
    line = text.splitlines()[cell.line]
    wrong = line.replace(cell.text, f"{(float(cell.text) + 0.5) % 1:.3f}", 1)
    page.write_text(text.replace(line, wrong))
    told = command(monkeypatch, "--n", "4", "--check", "kontext").splitlines()
    (problem,) = [line for line in told[1:] if "not measured" not in line]
    assert problem.startswith("tiny.md, kontext, overall, success:")
