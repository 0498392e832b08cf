"""Prints which metric ranks a clean edit above a faulty one, fault by fault, on ShapesWorld.

python benchmarks/faults.py [--n 60] [--metrics pixels,lpips] [--judges preserve,tiny] [--output FILE]

Each edit gives something new to a held-out scene (a colour, a shape, a thing) in which something else stays.
The clean result is the true answer; a faulty one has one planted fault. Both carry noise of two levels of
255, drawn anew for each. A figure is the share of edits where the clean result is strictly better. A tie
counts half, and so does a pair of which one result has no figure. `fault_expectations.py` says which figure
should see which fault, and why; the exit status is 1 where one does not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.fault_expectations import SEEN, explained, unseen
from benchmarks.planted_faults import FAULTS, cases, edits
from editkit import judges
from editkit.evaluation.metrics import AbsentMetricError, Column, Metric, load_metric
from editkit.evaluation.metrics.base import LOWER, NEITHER
from editkit.evaluation.records import Case
from editkit.shapesworld.scores import changed

METRICS = ("pixels", "source-pixels", "lpips", "clip", "dino", "preservation", "alignment", "shapesworld")
MASKED = ("preservation",)
"""Metrics that score twice: without a mask, and told where the edit belongs."""


def table(n: int, metrics: Sequence[Metric], referees: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Shares of edits where the clean result is ranked above the faulty one, by figure and fault."""
    wins: dict[str, dict[str, list[float]]] = {}
    asked = {name: judges.load_judge(name) for name in referees}
    for number, edit in enumerate(edits(n)):
        shown = cases(edit, number)
        views = [(metric, "", shown) for metric in metrics]
        views += [(metric, ", masked", masked(shown)) for metric in metrics if metric.name in MASKED]
        for metric, how, given in views:
            values = {name: metric.score(case).values for name, case in given.items()}
            for column in metric.columns:
                for fault in FAULTS:
                    if column.better != NEITHER and column.name in values["clean"]:
                        share = won(column, values["clean"][column.name], values[fault].get(column.name))
                        wins.setdefault(column.name + how, {}).setdefault(fault, []).append(share)
        for name, referee in asked.items():
            for fault in FAULTS:
                share = preferred(referee, shown["clean"], shown[fault])
                wins.setdefault(f"judge {name}", {}).setdefault(fault, []).append(share)
    return {name: {fault: float(np.mean(each)) for fault, each in row.items()} for name, row in wins.items()}


def masked(shown: Mapping[str, Case]) -> dict[str, Case]:
    """The same results, told where the true edit is."""
    clean = shown["clean"]
    assert clean.source is not None
    assert clean.answer is not None
    inside_HW = changed(*(picture.astype(np.float32) / 255 for picture in (clean.source, clean.answer)))
    return {name: replace(case, mask_HW=inside_HW) for name, case in shown.items()}


def won(column: Column, clean: float, faulty: float | None) -> float:
    """1 where the clean result is better, a half for a tie or where the faulty one has no figure."""
    if faulty is None or clean == faulty:
        return 0.5
    return float((clean < faulty) == (column.better == LOWER))


def preferred(referee: judges.Judge, clean: Case, faulty: Case) -> float:
    """Measure how often a judge of pairs prefers the clean result, over both orders."""
    assert clean.source is not None
    asked = judges.Case(source=Image.fromarray(clean.source), instruction=clean.item.instruction)
    first, second = Image.fromarray(clean.result), Image.fromarray(faulty.result)
    forth, back = referee.compare(asked, first, second), referee.compare(asked, second, first)
    points = {"first": 1.0, "second": 0.0}
    return (points.get(forth.better, 0.5) + 1 - points.get(back.better, 0.5)) / 2


def loaded(names: Sequence[str]) -> tuple[list[Metric], dict[str, str]]:
    """The metrics that are here, and why others are not."""
    found, missing = list[Metric](), dict[str, str]()
    for name in names:
        made = _metric(name)
        if isinstance(made, str):
            missing[name] = made
        else:
            found.append(made)
    return found, missing


def _metric(name: str) -> Metric | str:
    try:
        return load_metric(name)
    except AbsentMetricError as error:
        return str(error)


def main() -> None:
    """One row a figure; a star where it sees the fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--metrics", default=",".join(METRICS))
    parser.add_argument("--judges", default="preserve,tiny")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    metrics, missing = loaded([name for name in asked.metrics.split(",") if name])
    found = table(asked.n, metrics, [name for name in asked.judges.split(",") if name])
    print(f"{'':16}" + "".join(f"{fault:>9}" for fault in FAULTS))
    for name, row in found.items():
        cells = (f"{row[fault]:.2f}{'*' if row[fault] >= SEEN else ' '}" for fault in FAULTS)
        print(f"{name:16}" + "".join(f"{cell:>9}" for cell in cells))
    for name, why in missing.items():
        print(f"left out: {name}. {why}")
    print("\nEach figure should see:", *explained(found), sep="\n- ")
    problems = unseen(found)
    if asked.output:
        told = {"shares": found, "missing": missing, "unseen": problems}
        asked.output.write_text(json.dumps(told, indent=2) + "\n")
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
