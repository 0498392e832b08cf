"""`editkit eval run`: an evaluation that can be repeated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.cli import options
from editkit.cli.evaluate_reports import names, write_report
from editkit.cli.evaluation_progress import phases
from editkit.cli.options import Device, Dtype, Load, Lora
from editkit.cli.terminal import Quiet, Verbose, verbosity
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.evaluation.settings import RunConfig


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
    judge: Annotated[
        str | None, typer.Option(help="Score by this judge too: qwen-vl, or openai for an endpoint.")
    ] = None,
    rubric: Annotated[
        str | None,
        typer.Option(
            help="viescore, gedit, imgedit, success, text-to-image, or a YAML; if not given, the benchmark's."
        ),
    ] = None,
    judge_passes: Annotated[
        int | None, typer.Option(help="How often the judge is asked each question; answers are averaged.")
    ] = None,
    judge_option: Annotated[
        list[str] | None, typer.Option(help="An option of the judge, key=value; may be repeated.")
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
        "methods": names(method),
        "backbone": backbone,
        "out": out,
        "limit": limit,
        "metrics": names(metrics),
        "metric_options": options.pairs(metric_option, "--metric-option") or None,
        "judge": _judge(judge, rubric, judge_passes, options.pairs(judge_option, "--judge-option")),
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
    from editkit.evaluation import chunks, runner

    share, wait = chunks.from_environment(shard)
    prepared = runner.prepare(config)
    options.say(f"the metric {name} is left out: {why}" for name, why in prepared.left_out.items())
    if share.rank == 0 and (again := runner.failed(config)):
        options.say([f"{again} results that failed before are tried again"])

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
        write_report(folder.path)


def _config(benchmark: str, given: dict[str, Any], dry_run: bool) -> RunConfig:
    from editkit import config
    from editkit.evaluation.settings import RunConfig

    if benchmark.endswith((".yaml", ".yml")) and "benchmark" in (written := config.read(benchmark)):
        values = {**written, **given}
        if isinstance(written.get("judge"), dict) and "judge" in given:
            values["judge"] = {**written["judge"], **given["judge"]}
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
    made = contents.count * len([*config.methods, *config.results])
    for name, calls in planning.judge_calls(made, prepared.metrics).items():
        print(f"{name}: at most {calls} questions")
    for name, why in prepared.left_out.items():
        print(f"left out: {name}. {why}")


def _judge(name: str | None, rubric: str | None, passes: int | None, chosen: dict[str, Any]) -> Any:
    given = {"name": name, "rubric": rubric, "passes": passes, "options": chosen or None}
    return {key: value for key, value in given.items() if value is not None} or None


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
