"""Measures the tables of docs/tables.md, docs/tiny.md and the README again, and writes them or compares.

python -m benchmarks.tables [--check] [--n N] [NAME ...]

Without names, all of them. docs/tables.md is made whole; in the other pages the measured cells are filled in,
and their words are left alone. `--check` writes nothing. It fails where a measured figure lies outside the
interval that docs/tables.md prints, or a figure of the other pages outside the measured interval. `--n` takes
another number of examples than each table's own, for a quick look.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import page_tables
from benchmarks.page_sources import PAGE_SOURCES
from benchmarks.table_sources import SOURCES, Table, cleared
from editkit.evaluation.report.statistics import Estimate

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "docs/tiny.md", ROOT / "README.md")
PAGE, FIGURES = ROOT / "docs/tables.md", ROOT / "docs/assets/tables.json"
OUT = ROOT / "out/tables"
HEAD = """# Tables

`make tables` measures these tables anew and writes this page. It also fills in the figures of the
[model card](tiny.md) and of the README. `make tables-check` measures and compares. It fails where a measured
figure lies outside the interval that is printed here, where a figure of the other two pages lies outside the
measured interval, and where a table is not published. An interval is one of 95 %. `TABLES="sessions icedit"`
chooses some.
"""


def main() -> None:
    """Make the named tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*SOURCES, *PAGE_SOURCES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--check", action="store_true", help="compare with the published figures")
    parser.add_argument("--n", type=int, help="examples")
    asked = parser.parse_args()
    if strange := [name for name in asked.names if name not in known]:
        parser.error(f"there is no table {strange[0]!r}; give any of {', '.join(known)}")
    off = [
        problem
        for name in asked.names or known
        for problem in (own if name in SOURCES else in_pages)(name, asked.n, asked.check)
    ]
    if off:
        raise SystemExit("\n".join([f"{len(off)} figures are off by more than their intervals:", *off]))


def own(name: str, n: int | None, check: bool) -> list[str]:
    """Make a table of docs/tables.md; what is off where it is to be checked."""
    published = json.loads(FIGURES.read_text()) if FIGURES.is_file() else {}
    if check and name not in published:
        return [f"{name}: not published; make it with TABLES={name}"]
    source = SOURCES[name]
    n = n or (published[name]["n"] if check else source.n)
    made = plain(source.make(cleared(OUT / name), n), n)
    print("\n".join(section(made)))
    if check:
        return [f"{name}: {each}" for each in differences(published[name], made)]
    write(name, made)
    return []


def in_pages(name: str, n: int | None, check: bool) -> list[str]:
    """Measure tables that stand in other pages; what is off where they are to be checked."""
    source, off = PAGE_SOURCES[name], list[str]()
    for table in source.make(cleared(OUT / name), n or source.n):
        for page in page_tables.published(PAGES, table):
            text = page.read_text()
            made = page_tables.filled(text, table)
            print("\n".join(f"{page.name}  {line}" for line in page_tables.shown(made, table.first)))
            if check:
                off += page_tables.differences(f"{page.name}, {name}", text, table)
            else:
                page.write_text(made)
    return off


def plain(table: Table, n: int) -> dict[str, Any]:
    """A table in JSON's types."""
    return asdict(table) | {"n": n}


def write(name: str, made: dict[str, Any]) -> None:
    """Write the page and its figures, among those that another process may have written meanwhile."""
    figures = (json.loads(FIGURES.read_text()) if FIGURES.is_file() else {}) | {name: made}
    if made["plot"]:
        (PAGE.parent / plot_path(made)).write_text(made["plot"].replace("<svg ", SVG, 1) + "\n")
    figures = {key: figures[key] for key in SOURCES if key in figures}
    kept = {key: {**table, "plot": bool(table["plot"])} for key, table in figures.items()}
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n")
    sections = ["\n".join(section(table)) for table in kept.values()]
    PAGE.write_text("\n\n".join([HEAD.rstrip(), *sections]) + "\n")


SVG = '<svg style="color: #808080" '
"""A plot takes the page's text colour, and a file of its own has none: gray can be read on both."""


COARSE = 0.03
"""Width of an interval from which on two digits are enough."""


def plot_path(made: dict[str, Any]) -> str:
    """Return the path of a table's plot, from the page."""
    return f"assets/{made['title'].split()[0].lower()}.svg"


def section(made: dict[str, Any]) -> Iterator[str]:
    """A table's lines in Markdown."""
    yield f"## {made['title']}\n\n{made['words']}\n"
    yield "\n".join(f"`{command}`" if "`" not in command else command for command in made["commands"])
    yield f"\n| {' | '.join(made['head'])} |\n|{' --- |' * len(made['head'])}"
    for name, cells in made["rows"].items():
        yield f"| {name} | {' | '.join(map(cell, cells))} |"
    if made["plot"]:
        yield f"\n![{made['title']}]({plot_path(made)})"


def cell(value: dict[str, Any] | None) -> str:
    """A figure with its interval, with no more digits than that is worth."""
    if value is None:
        return ""
    digits = 2 if value["high"] - value["low"] > COARSE else 4
    mean, low, high = (f"{value[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def differences(published: dict[str, Any], made: dict[str, Any]) -> Iterator[str]:
    """Figures that lie outside the published interval, or are gone."""
    for name, cells in published["rows"].items():
        found = made["rows"].get(name, [None] * len(cells))
        for column, before, now in zip(published["head"][1:], cells, found, strict=True):
            if before is None:
                continue
            if now is None or not inside(Estimate(**before), now["mean"]):
                what = "nothing" if now is None else cell(now)
                yield f"{name}, {column}: {what} against {cell(before)}"


def inside(before: Estimate, mean: float) -> bool:
    """Whether a mean is within an interval, rounding of the last digit aside."""
    return before.low - 1e-9 <= mean <= before.high + 1e-9


if __name__ == "__main__":
    main()
