"""The page of tables: what is written, and what counts as off."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.table_sources import SOURCES, Table, share


@pytest.fixture
def made() -> dict:
    """A table of two methods."""
    rows = {"local": [share(0.5, 20), share(1.0, 20)], "global": [share(0.0, 20), None]}
    table = Table(
        title="Two methods", words="Success.", commands=["editkit eval run"], head=["", "a", "b"], rows=rows,
        plot="<svg viewBox='0 0 1 1'></svg>",
    )  # fmt: skip
    return json.loads(json.dumps(tables.plain(table, 20)))


def test_a_share_has_an_interval_even_where_all_succeed() -> None:
    found = share(1.0, 20)
    assert (found.mean, found.high) == (1, pytest.approx(1))
    assert 0.8 < found.low < 0.9
    assert share(0.5, 20).low == pytest.approx(1 - share(0.5, 20).high)


def test_the_same_figures_are_not_off(made: dict) -> None:
    assert list(tables.differences(made, copy.deepcopy(made))) == []


def test_figures_outside_their_interval_are_off(made: dict) -> None:
    now = copy.deepcopy(made)
    now["rows"]["local"][0]["mean"] = 0.69  # within
    now["rows"]["local"][1]["mean"] = 0.75
    del now["rows"]["global"]
    local, gone = tables.differences(made, now)
    assert local.startswith("local, b: 0.75 [")
    assert gone.startswith("global, a: nothing against 0.00 [")


def test_the_page_has_every_table(made: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").mkdir()
    monkeypatch.setattr(tables, "PAGE", tmp_path / "tables.md")
    monkeypatch.setattr(tables, "FIGURES", tmp_path / "assets" / "tables.json")
    first = next(iter(SOURCES))
    tables.write(first, made)
    page = (tmp_path / "tables.md").read_text()
    assert "## Two methods" in page
    assert "| global | 0.00 [0.00, 0.16] |  |" in page
    assert "![Two methods](assets/two.svg)" in page
    assert (tmp_path / "assets" / "two.svg").read_text().startswith('<svg style="color: #808080"')
    kept = json.loads((tmp_path / "assets" / "tables.json").read_text())
    assert list(tables.differences(kept[first], made)) == []


def test_the_published_page_is_that_of_the_published_figures() -> None:
    """Nobody edits it by hand."""
    figures = json.loads(tables.FIGURES.read_text())
    sections = ["\n".join(tables.section(table)) for table in figures.values()]
    assert tables.PAGE.read_text() == "\n\n".join([tables.HEAD.rstrip(), *sections]) + "\n"
