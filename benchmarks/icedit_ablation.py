"""ICEdit's Table 3 and its early filter on held-out ShapesWorld edits: what each part of the paper is worth.

    python benchmarks/icedit_ablation.py table [--n 500] [--first 0] [--rows 4 5 6 7 8 9]
    python benchmarks/icedit_ablation.py filter [--n 100] [--first 0] [--judges tiny] [--preview-steps 2]

`table` edits the same examples with the same seeds in every row; parameters are those that training changes.
`filter` draws all candidates of an example once, and lets each judge pick among the first 1, 2, 4, ... by one
bubble pass over their previews. Its oracle picks the best finished edit, which no judge of previews can beat.
"""

import argparse
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import editkit
from editkit import shapesworld as world
from editkit.inference import inputs, pipeline, planned_batch
from editkit.inference.seed_search import preview_steps
from editkit.judges import Case, load_judge
from editkit.judges.tournament import bubble
from editkit.shapesworld import evaluate_open
from editkit.shapesworld.scores import Score, score
from editkit.types import EditRequest
from methods.icedit.moe_layer import MoELinear

HERE = Path(__file__).resolve().parent.parent
ONLY_MOE = HERE / "out/icedit/only-moe/export"
"""An adapter that is trained for this table and not shipped."""
GUIDED = {"negative": "", "options": {"true_cfg": 2.0}}
ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "training-free, text to image, bare instruction",
        {"options": {"framework": "text", "template": "none"}},
    ),
    ("training-free, text to image, in-context prompt", {"options": {"framework": "text"}}),
    ("training-free, bare instruction", {"options": {"adapter": None, "template": "none"}}),
    ("training-free, in-context prompt", {"options": {"adapter": None}}),
    ("only MoE, in-context prompt", {"options": {"adapter": str(ONLY_MOE)}}),
    ("LoRA, in-context prompt", {"options": {"adapter": "lora"}}),
    ("LoRA-MoE, bare instruction", {"options": {"template": "none"}}),
    ("LoRA-MoE, in-context prompt", {}),
    ("LoRA-MoE, in-context prompt, true guidance", GUIDED),
    ("LoRA-MoE, the same, the rest preserved", GUIDED | {"preserve": True}),
)
"""What is edited with: the method's options, and fields of each request."""
CATEGORIES = ("local", "global", "text")
SETS = ("one", "open")
"""Edits with one answer, and open instructions."""


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("table", "filter"))
    parser.add_argument("--n", type=int, help="held-out examples: 500, or 100 of each set for the filter")
    parser.add_argument("--first", type=int, default=0, help="held-out examples to pass over")
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(ROWS)), help="rows of the table")
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS, help="of the filter")
    parser.add_argument("--judges", nargs="*", default=["preserve", "tiny"])
    parser.add_argument("--method", default="icedit")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--preview-steps", type=int, help="steps before a judge looks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = table if arguments.what == "table" else filters
    figures = run(arguments)
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n")


def examples(count: int, first: int) -> list[world.Example]:
    """Held-out examples that edit a scene; references are another matter."""
    drawn = (world.example(seed) for seed in world.HELD_OUT)
    on_scene = (example for example in drawn if example.kind in world.ON_SCENE)
    return list(itertools.islice(on_scene, first, first + count))


def table(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Table 3."""
    held_out = examples(arguments.n or 500, arguments.first)
    print(f"{len(held_out)} held-out edits, 8 steps, one seed each")
    columns = ("all", *CATEGORIES, "inside", "outside", "trained")
    print(f"{'':<50}" + "".join(f"{column:>9}" for column in columns))
    rows = []
    for name, how in (ROWS[place] for place in arguments.rows):
        asked = dict(how)
        options = asked.pop("options", {})
        if options.get("adapter") == str(ONLY_MOE) and not ONLY_MOE.is_dir():
            print(f"{name:<50} not trained: editkit train configs/tiny/icedit-only-moe.yaml")
            continue
        editor = editkit.load("tiny", device="cpu", options={"icedit": options})
        scores = edits(editor, held_out, **asked)
        row = {"name": name, "parameters": trained(editor), "all": success(scores)}
        for category in CATEGORIES:
            row[category] = success(
                s for s, e in zip(scores, held_out, strict=True) if e.category == category
            )
        row |= {side: float(np.mean([getattr(s, side) for s in scores])) for side in ("inside", "outside")}
        figures = [*(row[column] for column in columns[:-1]), row["parameters"] / 1e6]
        print(
            f"{name:<50}" + "".join(f"{f:>9.3f}" for f in figures[:-1]) + f"{figures[-1]:>8.2f}M", flush=True
        )
        rows.append(row)
    return rows


def edits(editor: editkit.Editor, held_out: Sequence[world.Example], **asked: Any) -> list[Score]:
    """One edit of each example, scored; `asked` are further fields of each request."""
    requests = [
        EditRequest(
            image=picture(example.source),
            instruction=example.instruction,
            method="icedit",
            seed=seed,
            **asked,
        )
        for seed, example in enumerate(held_out)
    ]
    results = editor.edit_many(requests)
    if errors := [result.error for result in results if result.error]:
        raise SystemExit(errors[0])
    return [closed(example, result.image) for example, result in zip(held_out, results, strict=True)]


def trained(editor: editkit.Editor) -> int:
    """Parameters of the adapters that are on."""
    transformer = editor.backbone.transformer("fill")
    experts = [m for m in transformer.modules() if isinstance(m, MoELinear)]
    counted = {p for m in experts for p in (m.down_ErI, m.up_EOr, m.route_EI)}
    counted |= {p for name, p in transformer.named_parameters() if ".lora_" in name}
    return sum(p.numel() for p in counted)


def filters(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The early filter's curve, on edits with one answer and on open instructions."""
    count, first, seeds = arguments.n or 100, arguments.first, arguments.seeds
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
                    _, comparisons = bubble(referee, each["case"], dict(enumerate(each[mode])))
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
        going_on = pipeline.previews(whole, state)
        state = pipeline.denoise(whole.velocity, state, whole.times)
        finished = [
            result.image
            for result in pipeline.results(whole, pipeline.decode_and_postprocess(whole, state.x_BLC), {})
        ]
        short = [replace(item, request=replace(item.request, steps=k)) for item in batch]
        restarted = pipeline.plan_batch(made, short)
        state = pipeline.denoise(restarted.velocity, restarted.start, restarted.times)
        previews = pipeline.previews(restarted, state)
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


def closed(example: world.Example, edited: Image.Image) -> Score:
    """Against the one true answer."""
    truth = [
        world.render(scene).astype(np.float32) / np.float32(255) for scene in (example.source, example.answer)
    ]
    return score(*truth, np.asarray(edited, dtype=np.float32) / np.float32(255), example.category)


def picture(scene: world.Scene) -> Image.Image:
    """A scene as a picture."""
    return Image.fromarray(world.render(scene))


def success(scores: Iterable[Score]) -> float:
    """The share that succeeded; no number where there are none."""
    found = [each.success for each in scores]
    return float(np.mean(found)) if found else float("nan")


if __name__ == "__main__":
    main()
