"""The early filter: many seeds, a few steps each, a judge, and the rest of the steps for the winner alone.

ICEdit, section 3.3, for any method. `restart` is the paper's: short edits as previews, the winner anew.
`continue` stops whole edits early, looks at where their last step points, and goes on with the winner.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from PIL import Image, ImageDraw

from editkit import config
from editkit.errors import EditkitError, unknown
from editkit.imaging import images
from editkit.imaging.contact_sheet import grid
from editkit.inference import inputs, pipeline
from editkit.inference.inputs import Prepared
from editkit.judges import JUDGES, Case, Judge, judge
from editkit.judges.tournament import bubble
from editkit.method import Method
from editkit.types import Comparison, EditResult, SearchSettings

MODES = ("continue", "restart")


@dataclass(frozen=True, kw_only=True)
class SeedSearch:
    """How to search.

    Attributes:
        seeds: how many, counted up from the request's.
        judge: one of `editkit.judges.JUDGES`.
        mode: `continue` or `restart`.
        preview_steps: steps before the judge looks; a quarter of the edit's, rounded up, where None.
        both_orders: ask a judge twice, with the pictures swapped; the surer answer counts, or none where
            the judge contradicts itself and cannot tell how sure it was.
        options: of the judge.
    """

    seeds: int = 8
    judge: str = "preserve"
    mode: str = "continue"
    preview_steps: int | None = None
    both_orders: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {self.seeds}")
        if self.mode not in MODES:
            raise ValueError(f"mode must be continue or restart, not {self.mode!r}")
        if self.judge not in JUDGES:
            raise ValueError(unknown("judge", self.judge, JUDGES).rstrip("."))
        if self.preview_steps is not None and self.preview_steps < 1:
            raise ValueError(f"preview_steps must be at least 1, not {self.preview_steps}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchReport:
    """Everything that a search saw.

    Attributes:
        previews: by seed.
        comparisons: in order.
        seed: the winner's.
        steps_by_seed: Euler steps that each took; the winner's in both its preview and its edit.
    """

    previews: dict[int, Image.Image]
    comparisons: tuple[Comparison, ...]
    seed: int
    steps_by_seed: dict[int, int]

    @property
    def steps(self) -> int:
        """Euler steps in all, over all seeds."""
        return sum(self.steps_by_seed.values())

    def summary(self) -> dict[str, Any]:
        """All but the pictures, in JSON's types."""
        compared = [
            {
                "seeds": list(each.seeds),
                "better": each.better,
                "replies": [verdict.reply for verdict in each.verdicts],
                "leads": [verdict.lead for verdict in each.verdicts],
                "problems": [verdict.problem for verdict in each.verdicts if verdict.problem],
                "seconds": round(sum(verdict.seconds for verdict in each.verdicts), 3),
            }
            for each in self.comparisons
        ]
        spent = {str(seed): steps for seed, steps in self.steps_by_seed.items()}
        told = {"seeds": list(self.previews), "seed": self.seed, "steps": self.steps, "steps_by_seed": spent}
        return {**told, "comparisons": compared}

    def contact_sheet(self) -> Image.Image:
        """All previews side by side, in rows of four, the winner's framed."""
        pictures = list(self.previews.values())
        width, height = pictures[0].size
        gap = max(2, min(width, height) // 32)
        columns = min(4, len(pictures))
        sheet, corners = grid(pictures, columns, gap=gap, margin=gap)
        left, top = corners[list(self.previews).index(self.seed)]
        frame = (left - gap, top - gap, left + width + gap - 1, top + height + gap - 1)
        ImageDraw.Draw(sheet).rectangle(frame, outline="limegreen", width=gap)
        return sheet


@torch.no_grad()
def run(
    backbone: Any,
    method: Method,
    options: Any,
    prepared: Prepared,
    search: SeedSearch,
    judges: dict[str, Judge],
    watch: pipeline.Watch | None = None,
) -> EditResult:
    """One edit whose seed is searched for.

    Args:
        backbone: with the method's role.
        method: any.
        options: the method's.
        prepared: the edit.
        search: how.
        judges: those made before, to be used again; a new one is put there.
        watch: told of each step, first of all seeds', then of the winner's.

    Raises:
        EditkitError: where the edit or the judge fails.
    """
    first, start = prepared.request.seed, time.perf_counter()
    role = method.role_under(options)
    n, _ = pipeline.defaults(backbone, method, role, prepared.request)
    k = min(search.preview_steps or preview_steps(n), n)
    steps = k if search.mode == "restart" else prepared.request.steps
    batch = [
        replace(prepared, request=replace(prepared.request, seed=first + number, steps=steps))
        for number in range(search.seeds)
    ]
    referee = _judge(search, judges) if search.seeds > 1 else None
    inputs.check_seed(first + search.seeds - 1)
    if referee is not None and referee.needs_source and prepared.source_1CHW is None:
        raise EditkitError(f"The judge {search.judge!r} needs a source picture; choose another judge.")
    with pipeline.enough_memory():
        running = pipeline.begin(backbone, method, options, batch, watch)
        running.walk(k)
        previews = {first + number: picture for number, picture in enumerate(running.previews())}
        source = images.picture(prepared.source_1CHW[0]) if prepared.source_1CHW is not None else None
        case = Case(source=source, instruction=prepared.request.instruction)
        seed, comparisons = bubble(referee, case, previews, search.both_orders)
        x_BLC, spent = running.x_BLC[seed - first :][:1], dict.fromkeys(previews, k)
        if len(batch) > 1 or search.mode == "restart":
            winner = replace(prepared, request=replace(prepared.request, seed=seed))
            seconds = time.perf_counter() - start
            running = pipeline.begin(backbone, method, options, [winner], watch)
            running.clock.laps["search"] = seconds
        if search.mode == "continue":
            running.x_BLC, running.place = x_BLC, k
        spent[seed] += n - running.place
        running.walk()
        (result,) = running.results()
    report = SearchReport(previews=previews, comparisons=tuple(comparisons), seed=seed, steps_by_seed=spent)
    notes = (*result.notes, *_unread(comparisons), *_one_order(referee, search))
    return replace(result, search=report, notes=notes)


def _judge(search: SeedSearch, judges: dict[str, Judge]) -> Judge:
    key = f"{search.judge} {json.dumps(search.options, sort_keys=True, default=str)}"
    if key not in judges:
        judges[key] = judge(search.judge, search.options)
    return judges[key]


def _unread(comparisons: Sequence[Comparison]) -> list[str]:
    """A note where a judge's replies could not be used."""
    problems = [verdict.problem for comparison in comparisons for verdict in comparison.verdicts]
    count = sum(map(bool, problems))
    if not count:
        return []
    return [f"{count} of the judge's {len(problems)} replies could not be read and count as ties."]


def _one_order(referee: Judge | None, search: SeedSearch) -> list[str]:
    """A note where a judge's liking for the first or the second place may have decided."""
    if referee is None or referee.symmetric or search.both_orders:
        return []
    return ["The judge saw each two pictures in one order alone, which may have swayed it."]


def preview_steps(steps: int) -> int:
    """Steps before a judge looks, where nobody says otherwise."""
    return math.ceil(steps / 4)


def build(search: SearchSettings | Mapping[str, Any]) -> SeedSearch:
    """A search from itself or from a dict of its fields.

    Raises:
        EditkitError: for an unknown field or a value out of range.
    """
    if isinstance(search, SeedSearch):
        search = asdict(search)  # built in Python, where nothing has looked at its types
    if not isinstance(search, Mapping):
        raise EditkitError(f"search={search!r} is not allowed; give a SeedSearch or a dict of its fields.")
    return config.build(SeedSearch, search)
