"""Run an evaluation: edit or find results, score them, and leave a folder that reports are made from."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit import __version__
from editkit.errors import EditkitError
from editkit.evaluation import adapter_digests, existing, picture_digests
from editkit.evaluation.benchmarks import located, open_benchmark
from editkit.evaluation.chunks import Share, Watch
from editkit.evaluation.metrics import LoadedMetric, judge
from editkit.evaluation.preparation import PreparedRun, prepare
from editkit.evaluation.records import Edit
from editkit.evaluation.report import frame, gallery
from editkit.evaluation.run_folder import GROWING, SETTINGS, RunFolder
from editkit.evaluation.scoring import Scoring
from editkit.evaluation.settings import RunConfig

if TYPE_CHECKING:
    from editkit.inference.editor import PictureEditor

__all__ = ["Phase", "PreparedRun", "check_made", "failed", "open_benchmark", "prepare", "run"]

PLACES = ("out", "device", "data")
"""Settings that do not decide what comes out."""
Phase = Callable[[str, int], Watch]
"""Begins a phase of so many results under a name; gives what counts them."""


def run(
    prepared: PreparedRun,
    load: Callable[[], PictureEditor],
    phase: Phase,
    share: Share | None = None,
    wait: Callable[[], None] = lambda: None,
) -> RunFolder:
    """Do this process's share of a run; what is logged already is not done again, unless it failed.

    Args:
        prepared: the run.
        load: loads the editor; called where methods are to edit.
        phase: told of each phase.
        share: this process's part; all of it where None.
        wait: returns when all processes have come this far.

    Raises:
        EditkitError: where the folder holds another run, or cannot be written.
    """
    config, benchmark = prepared.config, prepared.benchmark
    share = share or Share()
    for metric in prepared.metrics:
        if isinstance(metric, LoadedMetric):  # before hours of edits, not after
            metric.load()
    folder = RunFolder(config.out, share.rank)
    if share.leads:
        _begin(folder, prepared, share)
    wait()
    folder.mend()
    logged = folder.edits()
    count = prepared.contents.count
    if config.results:
        watch = phase("find results", count * len(config.results))
        existing.find_all(benchmark, config, folder, share, logged, watch)
    if config.methods:
        _edit(prepared, load, folder, share, logged, phase("edit", count * len(config.methods)))
    wait()
    Scoring(benchmark=benchmark, config=config, metrics=prepared.metrics, folder=folder, share=share).run(
        phase("score", count)
    )
    wait()
    if share.leads:  # of independent processes, the last one sees all results
        gallery.collect(folder, benchmark, config.limit)
    return folder


def _edit(
    prepared: PreparedRun,
    load: Callable[[], PictureEditor],
    folder: RunFolder,
    share: Share,
    logged: Mapping[tuple[str, str], Edit],
    watch: Watch,
) -> None:
    from editkit.evaluation.edits import Editing
    from editkit.evaluation.forward_cost import ForwardCosts

    config = prepared.config
    try:
        costs = ForwardCosts(config.backbone, config.load)
    except EditkitError:  # a folder of a shape that is not known without its weights
        costs = None
    Editing(
        editor=load(),
        benchmark=prepared.benchmark,
        config=config,
        folder=folder,
        share=share,
        costs=costs,
        logged=logged,
    ).run(watch)


def _begin(folder: RunFolder, prepared: PreparedRun, share: Share) -> None:
    """Write what is run; methods, results and metrics of earlier calls stay in it."""
    config = asdict(prepared.config)
    config["judge"] = judge.public(config["judge"])
    config["benchmark"] = located(config["benchmark"])  # an arena may be opened from another folder
    if config["data"] is not None:
        config["data"] = str(Path(config["data"]).resolve())
    before = folder.settings if folder.begun(share.independent) else {}
    identity = {name: value for name, value in config.items() if name not in (*GROWING, *PLACES)}
    identity |= {"benchmark": prepared.benchmark.config.name, "contents": prepared.contents.digest}
    described = {
        metric.name: {
            "columns": [asdict(column) for column in metric.columns],
            "depends on": metric.describe(),
        }
        for metric in prepared.metrics
    }
    _check_metrics(folder, before.get("metrics", {}), described)
    results = {name: str(Path(where).resolve()) for name, where in config["results"].items()}
    _check_results(folder, before.get("results", {}), results)
    used = adapter_digests.digests(prepared.config)
    settings = {
        "benchmark": asdict(prepared.benchmark.config),
        "contents": asdict(prepared.contents),
        "methods": list(dict.fromkeys([*before.get("methods", []), *config["methods"], *config["results"]])),
        "results": {**before.get("results", {}), **results},
        "config": config,
        "metrics": {**before.get("metrics", {}), **described},
        "adapters": adapter_digests.joined(before.get("adapters") or {}, used),
        "left_out": {
            name: why
            for name, why in {**before.get("left_out", {}), **prepared.left_out}.items()
            if name not in {**before.get("metrics", {}), **described}
        },
        "made_with": {
            "editkit": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    }
    pictures = picture_digests.digests(prepared.benchmark.items(prepared.config.limit))
    if before:
        picture_digests.check_unchanged(folder, pictures, prepared.config)
        adapter_digests.check_unchanged(folder, used)
    folder.begin(settings, identity, share.independent)
    folder.write_items(prepared.benchmark.items(prepared.config.limit), pictures)


def _check_results(folder: RunFolder, before: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Results of one name must all come from one folder: its pictures are in the log already."""
    for name, where in given.items():
        if (old := before.get(name)) is not None and Path(old).resolve() != Path(where):
            raise EditkitError(
                f"The run in {folder.path} has {name} from {old}, and {where} is given; give it another "
                "name, or choose another --out."
            )


def _check_metrics(folder: RunFolder, before: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Figures of one column must all come from one metric, which depends on the same in all calls."""
    owners: dict[str, str] = {}
    for name, metric in [*before.items(), *given.items()]:
        for column in metric["columns"]:
            if (other := owners.setdefault(column["name"], name)) != name:
                raise EditkitError(
                    f"{other} and {name} both give {column['name']}; score by one of them in another --out."
                )
    for name in before.keys() & given.keys():
        old, new = before[name]["depends on"], json.loads(json.dumps(given[name]["depends on"]))
        if changed := [key for key in {**old, **new} if old.get(key) != new.get(key)]:
            key = changed[0]
            raise EditkitError(
                f"The run in {folder.path} was scored by {name} with another {key}; choose another --out, or "
                "the same settings."
            )


def failed(config: RunConfig) -> int:
    """Count the results of a run's methods that failed in an earlier call and will be tried again.

    Raises:
        EditkitError: where the folder's settings cannot be read.
    """
    if not (Path(config.out) / SETTINGS).is_file():
        return 0
    found = frame.read_frame(RunFolder(config.out))
    return sum(found.failures(method) for method in [*config.methods, *config.results])


def check_made(config: RunConfig) -> None:
    """Check that no method of a run has failures alone, as far as results are there.

    Raises:
        EditkitError: where one has; the run's folder is whole nevertheless.
    """
    found = frame.read_frame(RunFolder(config.out))
    methods = [name for name in [*config.methods, *config.results] if found.of(name)]
    if failed := [name for name in methods if found.failures(name) == len(found.of(name))]:
        first = found.of(failed[0])[0]
        raise EditkitError(
            f"All results of {', '.join(failed)} failed ({first.item['id']}: {first.error}); correct this "
            "and give the command again, which tries them again."
        )
