"""Edits in few steps on `tiny`: success, sharpness and diversity over seeds at each number of steps.

    python benchmarks/few_steps.py [--n 24] [--seeds 4] [--steps 1 2 4 8 28] [--adapter EXPORT]

An edit with one answer is decided in its first step. So this asks open instructions, which several pictures
fulfil, and references. `--adapter` measures a distilled adapter beside the weights without it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

import editkit
from benchmarks.icedit_ablation import closed, picture
from editkit import shapesworld as world
from editkit.shapesworld import evaluate_open
from editkit.shapesworld.scores import REFERENCE_CATEGORIES, Score

STEPS = (1, 2, 4, 8, 28)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The figures of edits in a number of steps.

    Attributes:
        success: share of edits that succeed under open instructions.
        sharp: share of the same with at most four wrong cells.
        diversity: mean absolute difference between two seeds' pictures under one open instruction, in [0, 1].
        references: share of reference edits that succeed.
        sharp_references: share of the same with at most four wrong cells.
    """

    success: float
    sharp: float
    diversity: float
    references: float
    sharp_references: float


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=24, help="number of open instructions, and of references")
    parser.add_argument("--seeds", type=int, default=4, help="seeds for each open instruction")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--method", default="kontext")
    parser.add_argument("--adapter", metavar="EXPORT", help="an adapter that was distilled for few steps")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error(
            f"--seeds must be at least 2, to compare pictures of different seeds, not {given.seeds}."
        )
    torch.set_num_threads(given.threads)
    editors = {"as shipped": editkit.load("tiny", device="cpu")}
    if given.adapter:
        editors["with the adapter"] = editors["as shipped"].configured({}, {given.adapter: 1.0})
    print("| weights | steps | open | sharp | diversity | references | sharp |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (name, editor), steps in itertools.product(editors.items(), given.steps):
        found = measured(editor, given.method, given.n, given.seeds, steps)
        shares = f"{found.success:.3f} | {found.sharp:.3f} | {found.diversity:.3f}"
        references = f"{found.references:.3f} | {found.sharp_references:.3f}"
        print(f"| {name} | {steps} | {shares} | {references} |", flush=True)


def measured(editor: editkit.Editor, method: str, count: int, seeds: int, steps: int) -> Figures:
    """Edit held-out scenes in so many steps, and score them."""
    scores: list[Score] = []
    distances = []
    for example in map(world.open_example, world.HELD_OUT[:count]):
        images = edited(editor, method, example, range(example.seed, example.seed + seeds), steps)
        scores += [evaluate_open.nearest(example, image) for image in images]
        distances += [distance(one, two) for one, two in itertools.combinations(images, 2)]
    examples = [world.example(seed, REFERENCE_CATEGORIES[seed % 2]) for seed in world.HELD_OUT[:count]]
    references = [
        closed(example, *edited(editor, method, example, [example.seed], steps)) for example in examples
    ]
    return Figures(
        success=mean(each.success for each in scores),
        sharp=mean(each.sharp for each in scores),
        diversity=mean(distances),
        references=mean(each.success for each in references),
        sharp_references=mean(each.sharp for each in references),
    )


def edited(
    editor: editkit.Editor,
    method: str,
    example: world.OpenExample | world.Example,
    seeds: Sequence[int],
    steps: int,
) -> list[Image.Image]:
    """Edit one example's source under its instruction, a picture for each seed."""
    assert example.source is not None  # held-out edits have one
    request = editkit.EditRequest(
        image=picture(example.source), instruction=example.instruction, method=method, steps=steps
    )
    results = editor.edit_many([replace(request, seed=seed) for seed in seeds])
    if errors := [result.error for result in results if result.error]:
        raise SystemExit(errors[0])
    return [result.image for result in results if result.image is not None]


def distance(one: Image.Image, two: Image.Image) -> float:
    """Mean absolute difference of two pictures' pixels in [0, 1]."""
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(two, dtype=float)).mean() / 255)


def mean(values: Iterable[float]) -> float:
    """The mean of some figures."""
    return float(np.mean(list(values)))


if __name__ == "__main__":
    main()
