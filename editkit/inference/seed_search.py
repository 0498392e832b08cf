"""Search over seeds: make a preview of each seed, let a judge choose, and finish the winner alone.

ICEdit's early filter (section 3.3), for any method. `restart` is the paper's mode: previews are short edits,
and the winner is edited from the beginning. `continue` stops full edits early, extrapolates their last step
to a preview, and goes on with the winner.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image, ImageDraw

from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.imaging.contact_sheet import enlarged, grid
from editkit.inference import inputs, speed
from editkit.inference.decoding import decode_and_postprocess, previews, results
from editkit.inference.inputs import PreparedRequest
from editkit.inference.memory import enough_memory
from editkit.inference.pipeline import plan_batch, sample
from editkit.inference.planned_batch import DenoiseState, Pipeline
from editkit.inference.progress import Stopwatch, Watch
from editkit.inference.search_settings import SeedSearch
from editkit.inference.step_saving import SavedVelocity
from editkit.judges import Case, Judge, load_judge
from editkit.judges.tournament import find_best
from editkit.search_types import Comparison
from editkit.types import EditResult


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchReport:
    """The findings of a search.

    Attributes:
        previews: previews by seed.
        comparisons: the judge's comparisons, in order.
        seed: seed of the winner.
        steps_by_seed: Euler steps of each seed; those of the winner are of its preview and its edit.
    """

    previews: dict[int, Image.Image]
    comparisons: tuple[Comparison, ...]
    seed: int
    steps_by_seed: dict[int, int]

    @property
    def steps(self) -> int:
        """Euler steps of all seeds together."""
        return sum(self.steps_by_seed.values())

    def summary(self) -> dict[str, Any]:
        """Return everything but the pictures, in JSON's types."""
        compared = [
            {
                "seeds": list(each.seeds),
                "better": each.better,
                "replies": [verdict.reply for verdict in each.verdicts],
                "seen": [list(verdict.seen) for verdict in each.verdicts],
                "leads": [verdict.lead for verdict in each.verdicts],
                "problems": [verdict.problem for verdict in each.verdicts if verdict.problem],
                "seconds": round(sum(verdict.seconds for verdict in each.verdicts), 3),
            }
            for each in self.comparisons
        ]
        spent = {str(seed): steps for seed, steps in self.steps_by_seed.items()}
        summary = {
            "seeds": list(self.previews),
            "seed": self.seed,
            "steps": self.steps,
            "steps_by_seed": spent,
        }
        return {**summary, "comparisons": compared}

    def contact_sheet(self) -> Image.Image:
        """Draw all previews in rows of four, small ones enlarged, with a frame around the winner's."""
        pictures = [enlarged(picture.convert("RGB")) for picture in self.previews.values()]
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
    pipeline: Pipeline,
    prepared: PreparedRequest,
    search: SeedSearch,
    judges: dict[str, Judge],
    watch: Watch | None = None,
) -> EditResult:
    """Edit a picture with the seed that a search finds.

    Args:
        pipeline: a method on a backbone.
        prepared: the edit.
        search: settings of the search.
        judges: loaded judges, to be used again; a new one is added.
        watch: called after each step, first of all seeds together, then of the winner.

    Raises:
        EditkitError: where the edit or the judge fails.
    """
    clock, request, whole = Stopwatch(), prepared.request, search.mode == "continue"
    n, _ = pipeline.defaults(pipeline.method.role_under(pipeline.options), request)
    k = min(search.preview_steps or preview_steps(n), n)
    speed.check_steps(request.speed, pipeline.backbone.base, pipeline.method.name, n)
    seeds = range(request.seed, request.seed + search.seeds)
    referee = _judge(search, judges, prepared) if len(seeds) > 1 else None
    inputs.check_seed(seeds[-1])
    with enough_memory():
        # All seeds, stopped early.
        drawn = [_with(prepared, seed, request.steps if whole else k) for seed in seeds]
        every = plan_batch(pipeline, drawn, watch)
        early = sample(every, every.start, k, watch)
        pictures = dict(zip(seeds, previews(every, early), strict=True))
        # The judge chooses.
        source = images.picture(prepared.source_1CHW[0]) if prepared.source_1CHW is not None else None
        case = Case(source=source, instruction=request.instruction)
        seed, comparisons = find_best(referee, case, pictures, search.both_orders)
        clock.lap("search")
        # The winner alone, from where it was stopped or from its noise.
        chosen = [_with(prepared, seed, request.steps)]
        one = every if len(seeds) == 1 and whole else plan_batch(pipeline, chosen, watch)
        place = seeds.index(seed)
        stopped = DenoiseState(x_BLC=early.x_BLC[place : place + 1], step=k)
        clock.lap("plan")
        state = stopped if whole else one.start
        if whole and isinstance(one.velocity, SavedVelocity) and isinstance(every.velocity, SavedVelocity):
            one.velocity.resumed(every.velocity, place)
        last = sample(one, state, watch=watch)
        clock.lap("sample")
        edited = decode_and_postprocess(one, last.x_BLC)
        clock.lap("decode")
        (result,) = results(one, edited, clock.laps)
    spent = dict.fromkeys(seeds, k) | {seed: k + n - state.step}
    report = SearchReport(previews=pictures, comparisons=tuple(comparisons), seed=seed, steps_by_seed=spent)
    notes = (*result.notes, *_unread(comparisons), *_one_order(referee, search))
    return replace(result, search=report, notes=notes)


def _with(prepared: PreparedRequest, seed: int, steps: int | None) -> PreparedRequest:
    """Copy a request with another seed and number of steps."""
    return replace(prepared, request=replace(prepared.request, seed=seed, steps=steps))


def _judge(search: SeedSearch, judges: dict[str, Judge], prepared: PreparedRequest) -> Judge:
    """Load the judge, or take it from those that are loaded.

    Raises:
        EditkitError: where it cannot be loaded, or needs a source picture that the edit has not.
    """
    key = f"{search.judge} {json.dumps(search.options, sort_keys=True, default=str)}"
    if key not in judges:
        judges[key] = load_judge(search.judge, search.options)
    if judges[key].needs_source and prepared.source_1CHW is None:
        raise EditkitError(f"The judge {search.judge!r} needs a source picture; choose another judge.")
    return judges[key]


def _unread(comparisons: Sequence[Comparison]) -> list[str]:
    """Make a note where replies of the judge could not be used."""
    problems = [verdict.problem for comparison in comparisons for verdict in comparison.verdicts]
    count = sum(map(bool, problems))
    if not count:
        return []
    return [f"{count} of the judge's {len(problems)} replies could not be read and count as ties."]


def _one_order(referee: Judge | None, search: SeedSearch) -> list[str]:
    """Make a note where the picture order may have decided."""
    if referee is None or referee.symmetric or search.both_orders:
        return []
    return ["The judge saw each two pictures in one order only, which may have swayed it."]


def preview_steps(steps: int) -> int:
    """Return the default number of steps of a preview."""
    return math.ceil(steps / 4)
