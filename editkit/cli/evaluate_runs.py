"""`editkit eval run`: an evaluation that can be repeated."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.cli import completion, options
from editkit.cli.evaluate_reports import write_report
from editkit.cli.evaluation_progress import phases
from editkit.cli.options import Device, Dtype, Load, Lora
from editkit.cli.record_options import Option, listed, takes_fields
from editkit.cli.request import sides
from editkit.cli.terminal import Quiet, Verbose, verbosity
from editkit.errors import EditkitError
from editkit.evaluation.settings import RunConfig

OPTIONS = {
    "data": Option(),
    "methods": Option(
        flags=("-m", "--method"),
        kind=str,
        read=listed,
        help="Methods, with commas between.",
        more={"autocompletion": completion.methods},
    ),
    "backbone": Option(
        flags=("-b", "--backbone"),
        more={"envvar": "EDITKIT_BACKBONE", "autocompletion": completion.backbones},
    ),
    "out": Option(flags=("-o", "--out")),
    "limit": Option(),
    "metrics": Option(
        kind=str,
        read=listed,
        help="Metrics, with commas between. If none are given, those of the benchmark.",
    ),
    "metric_options": Option(
        flags=("--metric-option",),
        kind=list[str],
        read=lambda given: options.by_method(given, "--metric-option", "metric"),
        help="Option of a metric, as metric.key=value; may be repeated.",
    ),
    "results": Option(
        kind=list[str],
        read=lambda given: _results(given),
        help="Score the pictures in this folder, made elsewhere; may be repeated.",
        more={"metavar": "[NAME=]DIR"},
    ),
    "seed": Option(),
    "steps": Option(help="Euler steps. If not given, the default of each method."),
    "request": Option(
        kind=list[str],
        read=lambda given: _request(given),
        help="Field of every request, as key=value, such as speed=fast; may be repeated.",
    ),
    "batch_size": Option(),
    "masks": Option(),
    "options": Option(
        flags=("--option",),
        kind=list[str],
        read=options.by_method,
        help="Option of a method, as method.key=value; may be repeated.",
    ),
    "load": Option(kind=Load, read=lambda given: options.pairs(given, "--load")),
    "lora": Option(kind=Lora, read=options.scaled),
    "device": Option(kind=Device),
    "dtype": Option(kind=Dtype),
}
"""Fields of `RunConfig` that are options."""


@takes_fields(RunConfig, OPTIONS, defaults=False)
def run(
    given: dict[str, Any],
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="BENCH",
            help="A name from `editkit eval benchmarks`, or a YAML of a benchmark or of a run.",
        ),
    ],
    *,
    context: typer.Context,
    judge: Annotated[
        str | None, typer.Option(help="Judge that scores too: qwen-vl, or openai for an endpoint.")
    ] = None,
    rubric: Annotated[
        str | None,
        typer.Option(
            help="Rubric of the judge: viescore, gedit, imgedit, success, text-to-image, or a YAML. "
            "If not given, that of the benchmark."
        ),
    ] = None,
    judge_passes: Annotated[
        int | None,
        options.whole_number("How often the judge scores each picture; the result is the mean."),
    ] = None,
    judge_option: Annotated[
        list[str] | None, typer.Option(help="Option of the judge, as key=value; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what a run needs, and end.")] = False,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            autocompletion=completion.planned_devices,
            help="With --dry-run: GPU to plan for, such as h100-80g.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Do part K of N; `editkit eval report` joins the parts."),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Edit the items of a benchmark, or take results made elsewhere; score them and write a report."""
    verbosity.add(quiet, verbose)
    scoring = _judge(judge, rubric, judge_passes, options.pairs(judge_option, "--judge-option"))
    defaults = _defaults(context, given)
    config = _config(benchmark, given | ({"judge": scoring} if scoring else {}), defaults, dry_run)
    if idle := [name for name in config.unused if name not in defaults]:
        options.say([f"no method is named, so that nothing is edited and {', '.join(idle)} have no use"])
    if dry_run:
        _plan(config, on)
        return
    if on is not None:
        raise EditkitError("--on is for --dry-run; a run takes --device.")
    _run(config, shard)


def _run(config: RunConfig, shard: str | None) -> None:
    from editkit.evaluation import chunks, runner

    share, wait = chunks.from_environment(shard)
    prepared = runner.prepare(config)
    options.say(f"the metric {name} is left out: {why}" for name, why in prepared.left_out.items())
    if share.rank == 0 and (again := runner.failed(config)):
        options.say([f"{again} results that failed before are tried again"])

    def editor() -> Any:
        from editkit import api

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
    if share.leads:
        if not share.independent:
            write_report(folder.path)
        runner.check_made(config)


def _defaults(context: typer.Context, given: Collection[str]) -> set[str]:
    """Return the names of values that come from a person's defaults, not from the command line."""
    sources = {name: context.get_parameter_source(name) for name in given}
    return {name for name, source in sources.items() if source and source.name != "COMMANDLINE"}


def _config(benchmark: str, given: dict[str, Any], defaults: Collection[str], dry_run: bool) -> RunConfig:
    """Build the settings; a run's YAML overrides a person's defaults, so that all people get one table."""
    from editkit import config

    if benchmark.endswith((".yaml", ".yml")) and "benchmark" in (written := config.read_yaml(benchmark)):
        values = {**given, **written, **{name: given[name] for name in given if name not in defaults}}
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
    planning.check_machine(config)
    contents, needed = prepared.contents, planning.estimate_methods(config, prepared.benchmark, device)
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
        for each in needed
    ]
    if rows:
        head = ("", "items", "forward passes", "operations", f"hours on {device}" if device else "hours")
        print(text(columns("<>>>>", rows, head)))
    if unread := contents.count - min((each.items for each in needed), default=contents.count):
        print(f"{unread} items are not planned, as their pictures cannot be read")
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


def _request(given: list[str]) -> dict[str, Any]:
    found = options.pairs(given, "--request")
    if isinstance(size := found.get("size"), str):
        found["size"] = sides(size, "--request size=")
    return found


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
