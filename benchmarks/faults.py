"""Prints which metric ranks a clean edit above a faulty one, fault by fault, on ShapesWorld.

python benchmarks/faults.py [--n 60] [--metrics pixels,lpips] [--judges preserve,tiny] [--output FILE]

Each edit gives something new to a held-out scene (a colour, a shape, a thing) in which something else stays.
The clean result is the true answer; a faulty one has one planted fault. Both carry noise of two levels of
255, drawn anew for each. A figure is the share of edits where the clean result is strictly better. A tie
counts half, and so does a pair of which one result has no figure. The exit status is 1 where a figure that
should see a fault does not.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from editkit import judges
from editkit import shapesworld as world
from editkit.evaluation.metrics import AbsentMetricError, Column, Metric, load_metric
from editkit.evaluation.metrics.base import LOWER, NEITHER
from editkit.evaluation.records import RGB, Case, Edit, Item
from editkit.shapesworld import Scene, Thing
from editkit.shapesworld.render import CELLS

METRICS = ("pixels", "source-pixels", "lpips", "clip", "dino", "preservation", "alignment", "shapesworld")
KINDS = ("recolour", "replace", "add")
NOISE, BLUR, SHIFT, MOVE = 2.0, 1.5, 3, 2
"""Levels of 255; pixels; pixels; cells of the picture."""
SEEN = 0.9
"""Share from which on a metric sees a fault."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One edit: its source and its answer, and what differs between them.

    Attributes:
        source: the scene before.
        answer: the scene after.
        new: the thing that the edit gave.
        old: a thing that it left alone.
        instruction: the edit in words.
        category: ShapesWorld's own.
    """

    source: Scene
    answer: Scene
    new: Thing
    old: Thing
    instruction: str
    category: str


def edits(n: int) -> Iterator[Planted]:
    """Held-out edits that give something new and leave something alone."""
    made = seed = 0
    while made < n:
        example = world.example(seed, KINDS[made % len(KINDS)])
        seed += 1
        assert example.source is not None
        new = [thing for thing in example.answer.things if thing not in example.source.things]
        old = [thing for thing in example.answer.things if thing in example.source.things]
        if new and old:
            made += 1
            yield Planted(
                source=example.source, answer=example.answer, new=new[0], old=old[0],
                instruction=example.instruction, category=example.category,
            )  # fmt: skip


def wrong_colour(edit: Planted, rng: random.Random) -> RGB:
    """The new thing in a colour that nothing else has."""
    other = replace(edit.new, colour=rng.choice(edit.answer.new_colours()))
    return world.render(edit.answer.swap(edit.new, other))


def moved_object(edit: Planted, rng: random.Random) -> RGB:
    """A thing that should have stayed, some cells off, away from the border, along one axis or both."""
    across, down = rng.choice(((MOVE, MOVE), (MOVE, 0), (0, MOVE)))
    middle = CELLS // 2
    x, y = (
        place + (step if place < middle else -step)
        for place, step in ((edit.old.x, across), (edit.old.y, down))
    )
    moved = replace(edit.old, x=x, y=y)
    return world.render(edit.answer.swap(edit.old, moved))


def changed_background(edit: Planted, rng: random.Random) -> RGB:
    """Another background."""
    return world.render(replace(edit.answer, background=rng.choice(edit.answer.new_colours())))


def blurred(edit: Planted, rng: random.Random) -> RGB:
    """All of it a little soft."""
    clean = Image.fromarray(world.render(edit.answer))
    return np.asarray(clean.filter(ImageFilter.GaussianBlur(BLUR)))


def shifted(edit: Planted, rng: random.Random) -> RGB:
    """All of it some pixels to one side, the edge repeated."""
    clean = np.pad(world.render(edit.answer), ((0, 0), (SHIFT, SHIFT), (0, 0)), mode="edge")
    start = rng.choice((0, 2 * SHIFT))
    return clean[:, start : start + world.SIZE]


def copied(edit: Planted, rng: random.Random) -> RGB:
    """The source, as if nothing had been asked."""
    return world.render(edit.source)


FAULTS: dict[str, Callable[[Planted, random.Random], RGB]] = {
    "colour": wrong_colour,
    "moved": moved_object,
    "ground": changed_background,
    "blur": blurred,
    "shift": shifted,
    "copy": copied,
}


SHOULD_SEE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("l1", "l2", "psnr", "ssim", "lpips"), tuple(FAULTS)),
    "inside": ("colour", "ground", "blur", "shift", "copy"),
    "outside_answer": ("moved", "ground", "blur", "shift"),
    "outside": ("blur", "shift"),
    "success": ("colour", "ground", "copy"),
    "shift": ("shift",),
    "judge preserve": ("blur", "copy"),
    "judge tiny": ("colour", "ground", "copy"),
}
"""What each figure is for: errors to the true answer see all; the others what their definition says."""


def noisy(picture: RGB, seed: int) -> RGB:
    """A picture as a sampler leaves it, not quite flat."""
    noise = np.random.default_rng(seed).normal(0, NOISE, picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def cases(edit: Planted, number: int) -> dict[str, Case]:
    """The clean result and the faulty ones, each beside source and answer."""
    results = {"clean": world.render(edit.answer)}
    results |= {name: fault(edit, random.Random(f"{name} {number}")) for name, fault in FAULTS.items()}
    item = Item(id=str(number), instruction=edit.instruction, category=edit.category)
    return {
        name: Case(
            item=item,
            edit=Edit(method=name, item=item.id, place=number),
            result=noisy(result, 100 * number + place),
            source=world.render(edit.source),
            answer=world.render(edit.answer),
        )
        for place, (name, result) in enumerate(results.items())
    }


def table(n: int, metrics: Sequence[Metric], referees: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Shares of edits where the clean result is ranked above the faulty one, by figure and fault."""
    wins: dict[str, dict[str, list[float]]] = {}
    asked = {name: judges.load_judge(name) for name in referees}
    for number, edit in enumerate(edits(n)):
        shown = cases(edit, number)
        for metric in metrics:
            values = {name: metric.score(case).values for name, case in shown.items()}
            for column in metric.columns:
                for fault in FAULTS:
                    if column.better != NEITHER and column.name in values["clean"]:
                        share = won(column, values["clean"][column.name], values[fault].get(column.name))
                        wins.setdefault(column.name, {}).setdefault(fault, []).append(share)
        for name, referee in asked.items():
            for fault in FAULTS:
                share = preferred(referee, shown["clean"], shown[fault])
                wins.setdefault(f"judge {name}", {}).setdefault(fault, []).append(share)
    return {name: {fault: float(np.mean(each)) for fault, each in row.items()} for name, row in wins.items()}


def unseen(shares: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Figures that should see a fault and do not, in words."""
    return [
        f"{name} should see {fault}, and does in {row[fault]:.2f}"
        for name, row in shares.items()
        for fault in SHOULD_SEE.get(name, ())
        if row[fault] < SEEN
    ]


def won(column: Column, clean: float, faulty: float | None) -> float:
    """1 where the clean result is better, a half for a tie or where the faulty one has no figure."""
    if faulty is None or clean == faulty:
        return 0.5
    return float((clean < faulty) == (column.better == LOWER))


def preferred(referee: judges.Judge, clean: Case, faulty: Case) -> float:
    """How often a judge of pairs prefers the clean result, over both orders."""
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
    problems = unseen(found)
    if asked.output:
        told = {"shares": found, "missing": missing, "unseen": problems}
        asked.output.write_text(json.dumps(told, indent=2) + "\n")
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
