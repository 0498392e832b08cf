"""ShapesWorld as a benchmark: its held-out edits as items, and their success as a metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from editkit import config as configs
from editkit import shapesworld as world
from editkit.errors import EditkitError
from editkit.evaluation.benchmarks.benchmark import BenchmarkConfig
from editkit.evaluation.metrics.base import HIGHER, LOWER, Column
from editkit.evaluation.records import Case, Item, Problem, Scores, StoredPicture
from editkit.shapesworld import scores
from editkit.shapesworld.evaluate import SESSION_START, TURNS

NOWHERE = Path()


@dataclass(frozen=True, kw_only=True)
class ShapesWorldConfig:
    """Options of the reader `shapesworld`."""

    count: int = 1000
    """Held-out edits, from seed 0 on."""
    sessions: int = 0
    """Held-out sessions of five edits in a row, behind the edits."""

    def __post_init__(self) -> None:
        room = world.HELD_OUT.stop
        if not 0 <= self.count <= room or not 0 <= self.sessions <= room - SESSION_START:
            raise ValueError(f"count and sessions must stay within the held-out seeds 0 to {room - 1}")


def items(config: BenchmarkConfig, data: Path | None) -> Iterator[Item | Problem]:
    """Draw held-out edits, and then the turns of held-out sessions.

    Raises:
        EditkitError: where they leave the held-out seeds.
    """
    options = configs.build(ShapesWorldConfig, config.options)
    for seed in range(options.count):
        yield _item(world.example(seed), f"{seed:05d}")
    for number in range(SESSION_START, SESSION_START + options.sessions):
        session = f"session-{number}"
        for turn, example in enumerate(world.session(number, TURNS), start=1):
            yield _item(example, f"{session}-{turn}", session, turn)


def _item(example: world.Example, name: str, session: str = "", turn: int = 1) -> Item:
    def stored(scene: world.Scene, what: str) -> StoredPicture:
        return StoredPicture(value=world.render(scene), folder=NOWHERE, what=f"{what} of {name}")

    if example.source is None:
        raise EditkitError(f"The example {name} has no source.")
    return Item(
        id=name,
        instruction=example.instruction,
        source=stored(example.source, "source") if turn == 1 else None,
        answer=stored(example.answer, "answer"),
        category=example.category,
        session=session,
        turn=turn,
        last=not session or turn == TURNS,
        published=f"{name}.png",
        fields={"kind": example.kind},
    )


class Success:
    """Scores ShapesWorld's limits on the mean errors inside and outside the true change."""

    name = "shapesworld"
    parallel = True
    columns = (
        Column(name="success", better=HIGHER, meaning="share within ShapesWorld's limits", failed=0.0),
        Column(name="sharp", better=HIGHER, meaning="share with at most four wrong cells", failed=0.0),
        Column(name="inside", better=LOWER, meaning="mean absolute error where the true answer changes"),
        Column(name="outside_answer", better=LOWER, meaning="mean absolute error to the answer elsewhere"),
    )

    def describe(self) -> Mapping[str, Any]:
        """Its limits."""
        return {
            "source": "editkit.shapesworld.scores",
            "limits": {
                "inside": scores.INSIDE,
                "outside": scores.OUTSIDE,
                "wrong cells": scores.WRONG_CELLS,
            },
        }

    def score(self, case: Case) -> Scores:
        """Score a result of one of ShapesWorld's items."""
        if case.source is None or case.answer is None or case.source.shape != case.answer.shape:
            return Scores()
        pictures = (case.source, case.answer, case.result_as(case.answer))
        source, answer, result = (each.astype(np.float32) / np.float32(255) for each in pictures)
        found = scores.score(source, answer, result, case.item.category)
        values = {"success": float(found.success), "sharp": float(found.sharp), "inside": found.inside}
        values["outside_answer"] = found.outside
        return Scores(values=values)
