"""The tables that `benchmarks/tables.py` writes: each runs its commands, and gives its rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from scipy.stats import binomtest

from benchmarks.fault_expectations import explained
from benchmarks.icedit_ablation import ROWS
from benchmarks.planted_faults import FAULTS
from editkit.evaluation.report import frame
from editkit.evaluation.report import tables as lines
from editkit.evaluation.report.frame import Frame
from editkit.evaluation.report.plots import drift as plot
from editkit.evaluation.report.statistics import Estimate
from editkit.evaluation.run_folder import RunFolder

METHODS = "kontext,icedit,aceplus"
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with the commands that made it.

    Attributes:
        title: above it.
        words: what it shows.
        commands: as a person would type them.
        head: names of the columns, that of the rows' names first.
        rows: figures by the rows' names.
        plot: an SVG below the table.
    """

    title: str
    words: str
    commands: list[str]
    head: list[str]
    rows: dict[str, list[Estimate | None]]
    plot: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The commands and the reading of a table.

    Attributes:
        make: makes it in a folder, of so many examples.
        n: how many there are unless told otherwise.
    """

    make: Callable[[Path, int], Table]
    n: int = field(default=1)


def share(mean: float, n: int) -> Estimate:
    """A share of n with its 95 % interval by Wilson, which has a width where all succeed, too."""
    interval = binomtest(round(mean * n), n).proportion_ci(method="wilson")
    return Estimate(mean=mean, low=float(interval.low), high=float(interval.high), n=n)


def methods(folder: Path, n: int) -> Table:
    """Success of the three methods on ShapesWorld's categories."""
    command = f"editkit eval run shapesworld -m {METHODS} -b tiny --limit {n} --metrics shapesworld,cost"
    found = _evaluated(command, folder)
    rows: dict[str, list[Estimate | None]] = {}
    for line in lines.lines(found):
        success = line.cells["success"]
        rows.setdefault(line.part.removeprefix("category "), []).append(share(success.mean, success.n))
    return Table(
        title="Three methods",
        words="Success on held-out edits, by category; each method as it is shipped, without masks.",
        commands=[command],
        head=["", *found.methods],
        rows=rows,
    )


def sessions(folder: Path, n: int) -> Table:
    """Drift over five turns."""
    benchmark = folder.with_suffix(".yaml")
    benchmark.parent.mkdir(parents=True, exist_ok=True)
    settings = {"name": "sessions", "title": "ShapesWorld, five turns", "reader": "shapesworld"}
    options = {
        "options": {"count": 0, "sessions": n},
        "metrics": ["shapesworld"],
        "primary": "outside_answer",
    }
    benchmark.write_text(yaml.safe_dump(settings | options))
    command = f"editkit eval run {benchmark.name} -m {METHODS} -b tiny"
    found = _evaluated(command.replace(benchmark.name, str(benchmark)), folder)
    rows: dict[str, list[Estimate | None]] = {}
    for line in lines.lines(found):
        if line.part.startswith("turn "):
            rows.setdefault(line.part, []).append(line.cells.get("outside_answer"))
    drawn = plot(found)
    return Table(
        title="Drift over five turns",
        words="Mean absolute error to the true answer outside the change, of edits on the result before.",
        commands=[f"{command}, with `options: {{count: 0, sessions: {n}}}`"],
        head=["", *found.methods],
        rows=rows,
        plot="" if drawn is None else drawn.svg,
    )


def ablation(folder: Path, n: int) -> Table:
    """ICEdit's Table 3."""
    command = f"python benchmarks/icedit_ablation.py --n {n}"
    rows = _json(command, folder)
    words = "Success on held-out edits of a scene, by adapter and prompt, as in the paper's Table 3."
    made = {row["name"] for row in rows}
    if missing := [name for name, _ in ROWS if name not in made]:
        words += f" Left out, as its adapter is not trained: {', '.join(missing)}."
    return Table(
        title="ICEdit's ablation",
        words=words,
        commands=[command],
        head=["", "success"],
        rows={row["name"]: [share(row["all"], n)] for row in rows},
    )


def search(folder: Path, n: int) -> Table:
    """ICEdit's seed search."""
    command = f"python benchmarks/early_filter.py --n {n} --sets open --judges tiny --preview-steps 4"
    rows: dict[str, list[Estimate | None]] = {}
    for row in _json(command, folder):
        rows.setdefault(f"{row['judge']} {row['mode']}".strip(), []).append(share(row["success"], n))
    return Table(
        title="Seed search",
        words="Success of ICEdit under open instructions, at N seeds; the oracle sees the true answers.",
        commands=[command],
        head=["", *(f"N={2**power}" for power in range(len(next(iter(rows.values())))))],
        rows=rows,
    )


def autoencoder(folder: Path, n: int) -> Table:
    """Measure the losses of the autoencoder on photographs."""
    import skimage.data
    from PIL import Image

    folder.mkdir(parents=True)
    for name in PHOTOGRAPHS:
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    command = f"editkit eval vae {folder.name} -b tiny"
    told = json.loads(run(f"editkit eval vae {folder} -b tiny --json --quiet"))
    figures = {name: value for name, value in told.items() if isinstance(value, dict) and "mean" in value}
    return Table(
        title="The autoencoder",
        words=f"scikit-image's photographs {', '.join(PHOTOGRAPHS)}; the interval is two standard errors.",
        commands=[command],
        head=["", *figures],
        rows={"tiny": [_standard(each, told["n"]) for each in figures.values()]},
    )


def faults(folder: Path, n: int) -> Table:
    """Measure which metric sees which fault."""
    command = f"python benchmarks/faults.py --n {n}"
    told = _json(command, folder, allowed=(0, 1))
    words = [
        "The share of edits whose clean result is ranked above the one with the fault.",
        "1 sees the fault always, 0.5 is chance, 0 prefers the fault.",
    ]
    if told["missing"]:
        words.append(f"Left out, as their weights were not there: {', '.join(told['missing'])}.")
    if told["unseen"]:
        words.append(f"Missed: {'; '.join(told['unseen'])}.")
    words.append("Each figure should see:\n\n" + "\n".join(f"- {each}" for each in explained(told["shares"])))
    return Table(
        title="Which metric sees which fault",
        words=" ".join(words),
        commands=[command],
        head=["", *FAULTS],
        rows={name: [share(row[fault], n) for fault in FAULTS] for name, row in told["shares"].items()},
    )


SOURCES: Mapping[str, Source] = {
    "methods": Source(make=methods, n=200),
    "sessions": Source(make=sessions, n=20),
    "ablation": Source(make=ablation, n=60),
    "search": Source(make=search, n=40),
    "autoencoder": Source(make=autoencoder),
    "faults": Source(make=faults, n=60),
}


def _standard(figure: Mapping[str, float], n: int) -> Estimate:
    mean, error = figure["mean"], figure["standard error"]
    return Estimate(mean=mean, low=mean - 2 * error, high=mean + 2 * error, n=n)


def _evaluated(command: str, folder: Path) -> Frame:
    run(f"{command} --out {folder} --quiet")
    return frame.read_frame(RunFolder(folder))


def _json(command: str, folder: Path, allowed: Sequence[int] = (0,)) -> Any:
    folder.mkdir(parents=True)
    run(f"{command} --output {folder / 'figures.json'}", allowed)
    return json.loads((folder / "figures.json").read_text())


def run(command: str, allowed: Sequence[int] = (0,)) -> str:
    """Run a command with this Python; what it prints. Another exit status ends it all."""
    first, *rest = command.split()
    call = [sys.executable, *(["-m", "editkit"] if first == "editkit" else []), *rest]
    ran = subprocess.run(call, capture_output=True, text=True)
    if ran.returncode not in allowed:
        raise SystemExit(f"{command}\n{ran.stderr}")
    return ran.stdout


def cleared(folder: Path) -> Path:
    """A folder that is not there: a run would go on with results of other weights."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
