"""ShapesWorld's edits as training pairs, drawn when they are asked for."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from editkit import shapesworld as world
from editkit.data.records import DRAWN, DataConfig, Record
from editkit.errors import EditkitError
from editkit.shapesworld import evaluate, evaluate_masked
from editkit.shapesworld.compound import COMPOUND, compound_example
from editkit.shapesworld.masked import NAMES
from editkit.shapesworld.records import edit_record, masked_record

if TYPE_CHECKING:
    from editkit.inference.editor import PictureEditor


class Drawn(ABC):
    """Records that ShapesWorld's training seeds stand for."""

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.start = world.TRAINING_START if config.start is None else config.start
        if self.start < world.HELD_OUT.stop:
            raise EditkitError(
                f"data.start={self.start} is too low; give 10000 or more, since lower seeds are held out."
            )

    def __len__(self) -> int:
        return self.config.count or DRAWN

    def __getitem__(self, index: int) -> Record:
        return self.draw(self.start + index)

    def digest(self) -> str:
        return ""

    def content(self) -> str:
        return ""

    @abstractmethod
    def draw(self, seed: int) -> Record:
        """The record of one seed."""


class ShapesWorld(Drawn):
    """Edits without masks, captions, open and compound instructions."""

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.kinds = _kinds(config, world.KINDS, "caption", "open", *COMPOUND)

    def draw(self, seed: int) -> Record:
        return _edit(seed, random.Random(f"kind {seed}"), self.kinds)

    def held_out(self, count: int) -> list[Record]:
        """Edits of held-out seeds, kind by kind."""
        kinds = [kind for kind in world.KINDS if self.config.kinds.get(kind)] or list(world.KINDS)
        return [edit_record(world.example(seed, kinds[seed % len(kinds)])) for seed in range(count)]

    def success(self, editor: PictureEditor, method: str, count: int, steps: int | None) -> float:
        """Share of the first held-out edits that succeed."""
        report = evaluate.evaluate(editor, method, n=count, steps=steps)
        return float(report["overall"]["success"])


class ShapesWorldMasked(Drawn):
    """Edits under masks and from references, each told by its task."""

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.kinds = _kinds(config, world.MASKED, *NAMES[len(world.MASKED) :])

    def draw(self, seed: int) -> Record:
        (name,) = random.Random(f"kind {seed}").choices(list(self.kinds), list(self.kinds.values()))
        return masked_record(world.masked_example(seed, name))

    def held_out(self, count: int) -> list[Record]:
        """Edits of held-out seeds, kind by kind."""
        kinds = [kind for kind, weight in self.config.kinds.items() if weight] or list(world.MASKED)
        return [masked_record(world.masked_example(seed, kinds[seed % len(kinds)])) for seed in range(count)]

    def success(self, editor: PictureEditor, method: str, count: int, steps: int | None) -> float:
        """Mean share of held-out edits that succeed over the kinds; edits without masks for other methods."""
        record, _ = editor.method(method)
        if not record.tasks:
            return ShapesWorld(DataConfig()).success(editor, method, count, steps)
        report = evaluate_masked.evaluate(editor, method, [*self.config.kinds], n=count, steps=steps)
        found = [row["success"] for row in report["kinds"].values()]
        return float(sum(found) / len(found))


def _edit(seed: int, rng: random.Random, kinds: dict[str, float]) -> Record:
    """Draw one of the kinds, and its edit."""
    (kind,) = rng.choices(list(kinds), list(kinds.values()))
    if kind == "open":
        case = world.open_example(seed)
        return Record(
            source=world.render(case.source),
            answer=world.render(rng.choice(case.answers)),
            instruction=case.instruction,
            kind=kind,
        )
    return edit_record(compound_example(seed, kind) if kind in COMPOUND else world.example(seed, kind))


def _kinds(config: DataConfig, usual: Iterable[str], *more: str) -> dict[str, float]:
    """The kinds that a config asks for, with their weights; the usual ones alike where it names none."""
    if unknown := set(config.kinds) - {*usual, *more}:
        known = ", ".join((*usual, *more))
        raise EditkitError(f"data.name={config.name} has no kind {min(unknown)!r}; it has {known}.")
    return dict(config.kinds) or dict.fromkeys(usual, 1.0)
