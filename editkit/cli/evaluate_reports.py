"""`editkit eval report`, `compare`, `export` and `benchmarks`: what reads a run's folder, and lists."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.cli import options
from editkit.cli.record_options import listed
from editkit.cli.terminal import Quiet, Verbose, verbosity
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.evaluation.comparison import Difference

Runs = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
WORSE = 1
"""Exit status of a comparison that finds the second run worse."""


def report(run: Runs, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Write the report of a run again, from the files in its folder."""
    verbosity.add(quiet, verbose)
    write_report(run)


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of the first run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Folder of the second run.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--method",
            help="Method to compare, or A=B if it has another name in RUN_B; may be repeated.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Figures to compare, with commas between. If not given, all; "
            "costs (seconds, steps, tokens, tflops, peak_gb) are judged only if named here."
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Allowed loss of a figure, as a share of its mean in RUN_A.")
    ] = 0.0,
    shared_items: Annotated[
        bool,
        typer.Option(
            "--shared-items",
            help="Compare the items of the ids that both runs have, scored in both, and ignore others.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare two runs item by item.

    Exit status 1 if the second is significantly worse in a figure, or if items or scores are missing in one.
    """
    verbosity.add(quiet, verbose)
    if not 0 <= tolerance < math.inf:
        raise EditkitError(f"--tolerance {tolerance:g} is not allowed; give a share from 0 on.")
    from editkit.evaluation import comparison, same_metrics, unpaired

    asked = (first, second, method or (), listed(columns))
    found = comparison.compare(*asked)
    options.say(same_metrics.version_notes(first, second, [each.column for each in found]))
    lacking = [] if shared_items else unpaired.sentences(*asked)
    worse = comparison.regressions(found, tolerance)
    if as_json:
        print(json.dumps([_difference(each, each in worse) for each in found], indent=2))
    else:
        print(differences(found))
        print(_summary(found, worse))
    for told in lacking:  # a reason for the exit status is no note, so that --quiet does not hide it
        print(f"editkit: {told}, or give --shared-items.", file=sys.stderr)
    if worse or lacking:
        raise typer.Exit(WORSE)


def export(
    run: Runs,
    out: Annotated[Path, typer.Option("-o", "--out", help="A new folder.")],
    layout: Annotated[str | None, typer.Option("--as", help="gedit, imgedit or magicbrush.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a run's results in its benchmark's own layout, for its own scripts."""
    verbosity.add(quiet, verbose)
    from editkit.evaluation import exports

    options.say(exports.export(run, out, layout))
    print(out)


def benchmarks() -> None:
    """List benchmarks, where their data are, and the metrics they are scored by."""
    from editkit.cli.tables import columns, text
    from editkit.evaluation.benchmarks import BENCHMARKS, described

    rows = [
        (name, found.title, found.source or "-", ", ".join(found.metrics))
        for name in BENCHMARKS
        for found in [described(name)]
    ]
    print(text(columns("<<<<", rows, ("", "title", "data", "metrics"))))


def write_report(path: Path) -> None:
    """Write a run's report and print its table."""
    from editkit.cli.tables import columns, text
    from editkit.evaluation.report import files, frame, markdown, tables
    from editkit.evaluation.run_folder import RunFolder

    written = files.write(path)
    found = frame.read_frame(RunFolder(path))
    lines = [line for line in tables.lines(found) if line.part == "all"]
    rows = [
        (line.method, line.n, line.failed, name, tables.cell(line.cells.get(name), line.n))
        for line in lines
        for name in ([each for each in found.columns if each in line.cells] or [""])
    ]
    print(text(columns("<>><<", rows, ("", "n", "failed", "figure", "mean [95 % interval]"))))
    options.say(markdown.failed(found))
    print("  ".join(map(str, written[:2])))


def plain_differences(found: list[Difference]) -> list[dict[str, Any]]:
    """Return differences in JSON's types."""
    return [_difference(each, False) for each in found]


def differences(found: list[Difference]) -> str:
    """Format differences as a table."""
    from editkit.cli.tables import columns, text
    from editkit.evaluation.report import tables
    from editkit.evaluation.report.tables import cell, number

    rows = [
        (
            each.method,
            each.column,
            tables.rests(each.change, each.of) or each.change.n,
            number(each.first),
            number(each.second),
            cell(each.change),
            each.verdict if each.judged else f"{each.verdict} (cost)",
            "enough" if each.enough else f"needs {_items(each.needed)}",
        )
        for each in found
    ]
    head = ("", "figure", "n", "A", "B", "B - A [95 % interval]", "", "items")
    return text(columns("<<>>><<<", rows, head))


def _summary(found: list[Difference], worse: list[Difference]) -> str:
    """Sum the comparison up in a sentence."""
    told = ", ".join(f"{each.column} of {each.method}" for each in worse)
    costs = dict.fromkeys(each.column for each in found if not each.judged)
    ignored = f"; costs ({', '.join(costs)}) are judged only if --columns names them" if costs else ""
    return (f"worse: {told}" if worse else "no figure is surely worse") + ignored


def _items(count: float) -> str:
    return "no number" if math.isinf(count) else f"about {math.ceil(count)}"


def _difference(each: Difference, worse: bool) -> dict[str, Any]:
    return {
        "method": each.method,
        "column": each.column,
        "n": each.change.n,
        "of": each.of,
        "first": each.first,
        "second": each.second,
        "difference": each.change.mean,
        "low": each.change.low,
        "high": each.change.high,
        "verdict": each.verdict,
        "needed": None if math.isinf(each.needed) else math.ceil(each.needed),
        "enough": each.enough,
        "judged": each.judged,
        "regression": worse,
    }
