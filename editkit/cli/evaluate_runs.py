"""`editkit eval run`, `report`, `compare`, `export` and `benchmarks`: evaluations that can be repeated."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.cli import options
from editkit.cli.evaluation_progress import phases
from editkit.cli.options import Device, Dtype, Load, Lora
from editkit.cli.terminal import Quiet, Verbose, verbosity
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.evaluation.settings import RunConfig

Runs = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
WORSE = 1
"""Exit status of a comparison that finds the second run worse."""


def run(
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="BENCH",
            help="A name from `editkit eval benchmarks`, or a YAML of a benchmark or of a run.",
        ),
    ],
    data: Annotated[str | None, typer.Option(help="Folder or file of the benchmark's data.")] = None,
    method: Annotated[
        str | None, typer.Option("-m", "--method", help="Methods, with commas between.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "-b", "--backbone", envvar="EDITKIT_BACKBONE", help="A name, folder or Hub id; tiny if not given."
        ),
    ] = None,
    out: Annotated[str | None, typer.Option("-o", "--out", help="The run's folder.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take the first items only.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Metrics, with commas between; the benchmark's own if not given.")
    ] = None,
    metric_option: Annotated[
        list[str] | None, typer.Option(help="An option of a metric, metric.key=value; may be repeated.")
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]DIR", help="Score pictures made elsewhere; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Mixed into every item's seed.")] = None,
    steps: Annotated[int | None, typer.Option(help="Euler steps; each method's own if not given.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Items that are edited together.")] = None,
    masks: Annotated[
        bool, typer.Option("--masks", help="Give the benchmark's masks to the methods.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it needs, and run nothing.")] = False,
    on: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="With --dry-run: hours on it, such as h100-80g.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Do one of N shares; `editkit eval report` joins them.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="An option of a method, method.key=value.")
    ] = None,
    load: Load = None,
    lora: Lora = None,
    device: Device = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Edit a benchmark's items, or take results made elsewhere, score them, and write a report."""
    verbosity.add(quiet, verbose)
    given: dict[str, Any] = {
        "data": data,
        "methods": _names(method),
        "backbone": backbone,
        "out": out,
        "limit": limit,
        "metrics": _names(metrics),
        "metric_options": options.pairs(metric_option, "--metric-option") or None,
        "results": _results(results),
        "seed": seed,
        "steps": steps,
        "batch_size": batch_size,
        "masks": masks or None,
        "options": options.pairs(option) or None,
        "load": options.pairs(load, "--load") or None,
        "lora": options.scaled(lora) or None,
        "device": device,
        "dtype": dtype,
    }
    config = _config(benchmark, {name: value for name, value in given.items() if value is not None}, dry_run)
    if on is not None and not dry_run:
        raise EditkitError("--on is for --dry-run; a run takes --device.")
    if dry_run:
        _plan(config, on)
        return
    _run(config, shard)


def _run(config: RunConfig, shard: str | None) -> None:
    from editkit import api
    from editkit.evaluation import runner

    share, wait = runner.from_environment(shard)
    prepared = runner.prepare(config)
    options.say(f"the metric {name} is left out: {why}" for name, why in prepared.left_out.items())

    def editor() -> Any:
        return api.load(
            config.backbone,
            config.device,
            config.dtype,
            options=config.options,
            lora=config.lora,
            **config.load,
        )

    with phases() as shown:
        folder = runner.run(prepared, editor, shown.begin, share, wait)
    if shard is None and share.rank == 0:
        _report(folder.path)


def report(run: Runs, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Write a run's report from its folder alone."""
    verbosity.add(quiet, verbose)
    _report(run)


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of the run to compare with.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Folder of the run in question.")],
    method: Annotated[
        list[str] | None, typer.Option("-m", "--method", help="A, or A=B for two names; may be repeated.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Figures, with commas between; all if not given.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Share of RUN_A's mean by which a figure may be worse.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Paired differences of two runs; exit status 1 where the second is surely worse in any figure."""
    verbosity.add(quiet, verbose)
    if not 0 <= tolerance < math.inf:
        raise EditkitError(f"--tolerance {tolerance:g} is not allowed; give a share from 0 on.")
    from editkit.evaluation import comparison

    found = comparison.compare(first, second, method or (), _names(columns) or ())
    worse = comparison.regressions(found, tolerance)
    if as_json:
        print(json.dumps([_difference(each, each in worse) for each in found], indent=2))
    else:
        print(_differences(found))
        names = ", ".join(f"{each.column} of {each.method}" for each in worse)
        print(f"worse: {names}" if worse else "no figure is surely worse")
    if worse:
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


COMMANDS = (run, report, compare, export, benchmarks)


def _config(benchmark: str, given: dict[str, Any], dry_run: bool) -> RunConfig:
    from editkit import config
    from editkit.evaluation.settings import RunConfig

    if benchmark.endswith((".yaml", ".yml")) and "benchmark" in (written := config.read(benchmark)):
        values = {**written, **given}
    else:
        values = {"benchmark": benchmark, **given}
    if "out" not in values:
        if not dry_run:
            raise EditkitError("A run needs --out, the folder that it writes to.")
        values["out"] = ""
    return config.build(RunConfig, values)


def _plan(config: RunConfig, device: str | None) -> None:
    from editkit.cli.tables import columns, text
    from editkit.evaluation import planning, runner

    prepared = runner.prepare(config)
    contents = prepared.contents
    print(f"{prepared.benchmark.config.name}: {contents.count} items")
    for name, count in contents.categories.items():
        if name:
            print(f"  {name}: {count}")
    for kind, count in contents.problems.items():
        print(f"  bad rows ({kind}): {count}")
    rows = [
        (
            each.method,
            each.items,
            "unknown" if each.passes is None else each.passes,
            "unknown" if each.flops is None else f"{each.flops:.3g}",
            "-" if each.hours is None else f"{each.hours:.3g}",
        )
        for each in planning.needs(config, prepared.benchmark, device)
    ]
    if rows:
        head = ("", "items", "forward passes", "operations", f"hours on {device}" if device else "hours")
        print(text(columns("<>>>>", rows, head)))
    for name in config.results:
        print(f"{name}: results made elsewhere, no forward pass")
    print(f"metrics: {', '.join(metric.name for metric in prepared.metrics)}")
    for name, why in prepared.left_out.items():
        print(f"left out: {name}. {why}")


def _report(path: Path) -> None:
    from editkit.cli.tables import columns, text
    from editkit.evaluation.report import files, frame, tables
    from editkit.evaluation.run_folder import RunFolder

    written = files.write(path)
    found = frame.read(RunFolder(path))
    lines = [line for line in tables.lines(found) if line.part == "all"]
    rows = [
        (line.method, line.n, line.failed, name, tables.cell(line.cells[name]))
        for line in lines
        for name in found.columns
        if name in line.cells
    ]
    print(text(columns("<>><<", rows, ("", "n", "failed", "figure", "mean [95 % interval]"))))
    if found.problems:
        options.say([f"{len(found.problems)} rows of the benchmark are bad; see {path / 'report.md'}"])
    print("  ".join(map(str, written[:2])))


def _differences(found: list[Any]) -> str:
    from editkit.cli.tables import columns, text
    from editkit.evaluation.report.tables import cell, number

    rows = [
        (
            each.method,
            each.column,
            each.change.n,
            number(each.first),
            number(each.second),
            cell(each.change),
            each.verdict,
            "enough" if each.enough else f"needs {_items(each.needed)}",
        )
        for each in found
    ]
    head = ("", "figure", "n", "A", "B", "B - A [95 % interval]", "", "items")
    return text(columns("<<>>><<<", rows, head))


def _items(count: float) -> str:
    return "no number" if math.isinf(count) else f"about {math.ceil(count)}"


def _difference(each: Any, worse: bool) -> dict[str, Any]:
    return {
        "method": each.method,
        "column": each.column,
        "n": each.change.n,
        "first": each.first,
        "second": each.second,
        "difference": each.change.mean,
        "low": each.change.low,
        "high": each.change.high,
        "verdict": each.verdict,
        "needed": None if math.isinf(each.needed) else math.ceil(each.needed),
        "enough": each.enough,
        "regression": worse,
    }


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def _results(given: list[str] | None) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, path = each.partition("=")
        if Path(each).is_dir() or not equals:
            name, path = Path(each).resolve().name, each
        if name in found:
            raise EditkitError(f"--results names {name} twice; give NAME=DIR for one of them.")
        found[name] = path
    return found or None
