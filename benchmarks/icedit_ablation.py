"""ICEdit's ablation on `tiny`: what its prompt, its adapter and its experts are worth.

    python benchmarks/icedit_ablation.py [--n 500] [--first 0] [--rows 4 5 6 7 8 9]

Every row edits the same examples with the same seeds; parameters are those that training changes.
"""

import argparse
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import editkit
from editkit import shapesworld as world
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
"""Rows of the table: the method's options, and fields of each request."""
CATEGORIES = ("local", "global", "text")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=500, help="number of held-out examples")
    parser.add_argument("--first", type=int, default=0, help="number of held-out examples to skip")
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(ROWS)), help="rows of the table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = table(arguments.n, arguments.first, arguments.rows)
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n")


def examples(count: int, first: int) -> list[world.Example]:
    """Held-out examples that edit a scene; references are another matter."""
    drawn = (world.example(seed) for seed in world.HELD_OUT)
    on_scene = (example for example in drawn if example.kind in world.ON_SCENE)
    return list(itertools.islice(on_scene, first, first + count))


def table(count: int, first: int, chosen: Iterable[int]) -> list[dict[str, Any]]:
    """Measure the chosen rows of the paper's table 3, and print each."""
    held_out = examples(count, first)
    print(f"{len(held_out)} held-out edits, 8 steps, one seed each")
    columns = ("all", *CATEGORIES, "inside", "outside", "trained")
    print(f"{'':<50}" + "".join(f"{column:>9}" for column in columns))
    rows = []
    for name, how in (ROWS[place] for place in chosen):
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
