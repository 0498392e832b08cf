"""Seed search on `tiny`: what a judge of previews gains, and what it costs.

    python benchmarks/early_filter.py [--n 100] [--first 0] [--judges tiny] [--preview-steps 2]

All candidates of an example are drawn once. Each judge picks among the first 1, 2, 4, ... of them, by one
bubble pass over their previews. The oracle picks the best finished edit, which no judge of previews can beat.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import editkit
from benchmarks.icedit_ablation import closed, examples, picture
from editkit import shapesworld as world
from editkit.inference import decoding, inputs, pipeline, planned_batch
from editkit.inference.seed_search import preview_steps
from editkit.judges import Case, load_judge
from editkit.judges.tournament import find_best
from editkit.shapesworld import evaluate_open
from editkit.types import EditRequest

SETS = ("one", "open")
"""Edits with one answer, and open instructions."""


def main() -> None:
    """Print the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100, help="number of held-out examples of each set")
    parser.add_argument("--first", type=int, default=0, help="number of held-out examples to skip")
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS)
    parser.add_argument("--judges", nargs="*", default=["preserve", "tiny"])
    parser.add_argument("--method", default="icedit")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--preview-steps", type=int, help="number of steps before a judge looks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = filters(arguments)
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n")


def filters(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the curve on edits with one answer and on open instructions, and print it."""
    count, first, seeds = arguments.n, arguments.first, arguments.seeds
    editor = editkit.load("tiny", device="cpu")
    rows = []
    for name in arguments.sets:
        if name == "open":
            held_out = [world.open_example(seed) for seed in world.HELD_OUT[first : first + count]]
            scored = evaluate_open.nearest
        else:
            held_out, scored = examples(count, first), closed
        drawn = [
            candidates(editor, arguments.method, e, scored, seeds, arguments.preview_steps) for e in held_out
        ]
        wins = np.array([[s.success for s in each["scores"]] for each in drawn])
        print(
            f"{name}: {len(held_out)} edits, {seeds} seeds, "
            f"previews after {drawn[0]['k']} of {drawn[0]['n']} steps"
        )
        rows += curve(name, "", "oracle", drawn, [row.argmax() for row in wins], wins)
        for mode in ("continue", "restart"):
            for who in arguments.judges:
                referee = load_judge(who)
                picks = []
                for each in drawn:
                    _, comparisons = find_best(referee, each["case"], dict(enumerate(each[mode])))
                    picks.append([c.better for c in comparisons])
                rows += curve(name, mode, who, drawn, picks, wins)
    return rows


def candidates(
    editor: editkit.Editor, method: str, example: Any, scored: Any, seeds: int, early: int | None
) -> dict[str, Any]:
    """All of an example's seeds: finished edits' scores, and previews of both modes."""
    record, options = editor.method(method)
    editor.edit(picture(example.source), example.instruction, method, steps=1)  # puts the adapters on
    request = EditRequest(image=picture(example.source), instruction=example.instruction, method=method)
    batch = [inputs.prepare(replace(request, seed=example.seed + n)) for n in range(seeds)]
    with torch.no_grad():
        made = planned_batch.Pipeline(editor.backbone, record, options)
        whole = pipeline.plan_batch(made, batch)
        n = len(whole.times) - 1
        k = early or preview_steps(n)
        state = pipeline.denoise(whole.velocity, whole.start, whole.times, k)
        going_on = decoding.previews(whole, state)
        state = pipeline.denoise(whole.velocity, state, whole.times)
        finished = [
            result.image
            for result in decoding.results(whole, decoding.decode_and_postprocess(whole, state.x_BLC), {})
        ]
        short = [replace(item, request=replace(item.request, steps=k)) for item in batch]
        restarted = pipeline.plan_batch(made, short)
        state = pipeline.denoise(restarted.velocity, restarted.start, restarted.times)
        previews = decoding.previews(restarted, state)
    case = Case(source=picture(example.source), instruction=example.instruction)
    scores = [scored(example, image) for image in finished]
    return {"case": case, "continue": going_on, "restart": previews, "scores": scores, "n": n, "k": k}


def curve(
    name: str, mode: str, who: str, drawn: list[dict[str, Any]], picks: list[Any], wins: Any
) -> list[dict[str, Any]]:
    """Success and cost at 1, 2, 4, ... seeds."""
    n, k = drawn[0]["n"], drawn[0]["k"]
    rows = []
    for seeds in (2**power for power in range(wins.shape[1].bit_length())):
        if who == "oracle":
            found = wins[:, :seeds].any(1)
        else:
            found = np.array([row[winner(pick[: seeds - 1])] for pick, row in zip(picks, wins, strict=True)])
        steps = seeds * k + n - (k if mode != "restart" or seeds == 1 else 0)
        cost = n if seeds == 1 else seeds * n if who == "oracle" else steps
        rows.append({"set": name, "mode": mode, "judge": who, "seeds": seeds, "success": float(found.mean())})
        rows[-1]["cost"] = cost / n
        print(
            f"  {who:<10}{mode:<10}N={seeds:<3} success {found.mean():.3f}  cost {cost / n:.2f} edits",
            flush=True,
        )
    return rows


def winner(preferred: Sequence[int | None]) -> int:
    """Who leads after some comparisons of a bubble pass; a tie changes nothing."""
    return next((place for place in reversed(preferred) if place is not None), 0)


if __name__ == "__main__":
    main()
