"""Edit success on held-out ShapesWorld scenes, beside the ceiling and the copy baseline."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from editkit import atomic_files
from editkit import shapesworld as world
from editkit.errors import EditkitError
from editkit.imaging import contact_sheet, images
from editkit.inference.editor import PictureEditor
from editkit.inference.progress import Watch
from editkit.shapesworld.compound import compound_example
from editkit.shapesworld.scores import Pixels, changed, score
from editkit.types import EditRequest

SESSION_START, TURNS = 5_000, 5
SHOWN = 2


def evaluate(
    editor: PictureEditor,
    method: str,
    *,
    n: int,
    sessions: int = 0,
    compound: int = 0,
    steps: int | None = None,
    negative: str | None = None,
    batch_size: int = 32,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Edit the first `n` held-out examples and score them, and sessions of five edits in a row.

    Args:
        editor: with any backbone.
        method: one that edits pictures.
        n: examples.
        sessions: of five edits each.
        compound: compound edits, two or three in one instruction.
        steps: the default where None.
        negative: the negative prompt of all edits, as in `EditRequest`.
        batch_size: edits that run together.
        watch: told of each step of each batch.

    Returns:
        A JSON-able report, and under `grid` the rows of pictures (source, edit, truth) to look at.

    Raises:
        EditkitError: where `n` leaves the held-out seeds, or an edit fails.
    """
    _check_numbers(n, sessions, compound)
    examples = [world.example(seed) for seed in range(n)]
    wanted = EditRequest(image=None, instruction="", method=method, steps=steps, negative=negative)
    rows, edited = _edit_and_score(editor, wanted, examples, batch_size, watch)
    record, options = editor.method(method)
    role = record.role_under(options)
    report: dict[str, Any] = {
        "method": method,
        "backbone": editor.backbone.name,
        "n": n,
        "steps": steps or editor.backbone.defaults(role)[0],
        "negative": negative,
        "overall": _summary(rows),
        "categories": {c: _summary(r for r in rows if r["category"] == c) for c in world.CATEGORIES},
        "kinds": {k: _summary(r for r in rows if r["kind"] == k) for k in world.KINDS},
    }
    if sessions:
        report["sessions"] = _sessions(editor, wanted, sessions, batch_size, watch)
    if compound:
        joined = [compound_example(seed) for seed in range(compound)]
        report["compound"] = _summary(_edit_and_score(editor, wanted, joined, batch_size, watch)[0])
    report["grid"] = _grid(examples, edited)
    return report


def _check_numbers(n: int, sessions: int, compound: int) -> None:
    most = world.HELD_OUT.stop
    turns = ("sessions", sessions, 0, most - SESSION_START)
    for name, given, least, largest in (("n", n, 1, most), turns, ("compound", compound, 0, most)):
        if not least <= given <= largest:
            raise EditkitError(f"{name}={given} leaves the held-out seeds; give {least} to {largest}.")


def _grid(
    examples: Sequence[world.Example], edited: Sequence[Pixels]
) -> list[list[tuple[Pixels, Pixels, Pixels]]]:
    """The first edits of each kind, a kind a row: source, edit, truth."""
    shown = [[p for p, e in enumerate(examples) if e.kind == kind][:SHOWN] for kind in world.KINDS]
    return [
        [(_pixels(examples[p].source), edited[p], _pixels(examples[p].answer)) for p in places]
        for places in shown
    ]


def _edit_and_score(
    editor: PictureEditor,
    wanted: EditRequest,
    examples: Sequence[world.Example],
    batch_size: int,
    watch: Watch | None,
) -> tuple[list[dict[str, Any]], list[Pixels]]:
    """Edit the sources of examples; return their rows of scores and the pictures."""
    sources = [_pixels(example.source) for example in examples]
    answers = [_pixels(example.answer) for example in examples]
    instructions, seeds = [e.instruction for e in examples], [e.seed for e in examples]
    edited = _edit(editor, wanted, sources, instructions, seeds, batch_size, watch)
    rounded = _through_vae(editor, answers, batch_size)
    rows = [_scores(*each) for each in zip(examples, sources, answers, edited, rounded, strict=True)]
    return rows, edited


def _scores(
    example: world.Example, source: Pixels, answer: Pixels, edited: Pixels, rounded: Pixels
) -> dict[str, Any]:
    """Score an edit, the true answer after the autoencoder, and the unchanged source."""
    made = {"edit": edited, "ceiling": rounded, "copy": source}
    scores = {name: score(source, answer, pixels, example.category) for name, pixels in made.items()}
    return {"category": example.category, "kind": example.kind, **scores}


def _pixels(scene: world.Scene | None) -> Pixels:
    assert scene is not None
    return world.render(scene).astype(np.float32) / np.float32(255)


def _edit(
    editor: PictureEditor,
    wanted: EditRequest,
    sources: Sequence[Pixels],
    instructions: Sequence[str],
    seeds: Iterable[int],
    batch_size: int,
    watch: Watch | None = None,
) -> list[Pixels]:
    requests = [
        replace(wanted, image=_picture(source), instruction=instruction, seed=seed)
        for source, instruction, seed in zip(sources, instructions, seeds, strict=True)
    ]
    edited = []
    for result in editor.edit_many(requests, batch_size=batch_size, watch=watch):
        if result.image is None:
            raise EditkitError(str(result.error))
        edited.append(np.asarray(result.image, dtype=np.float32) / np.float32(255))
    return edited


def _picture(pixels_HWC: Pixels) -> Image.Image:
    return images.picture(torch.from_numpy(pixels_HWC).permute(2, 0, 1))


def _through_vae(editor: PictureEditor, pictures: Sequence[Pixels], batch_size: int) -> list[Pixels]:
    backbone, decoded = editor.backbone, []
    for start in range(0, len(pictures), batch_size):
        pixels_BCHW = torch.from_numpy(np.stack(pictures[start : start + batch_size])).permute(0, 3, 1, 2)
        height, width = pixels_BCHW.shape[-2:]
        decoded += list(
            backbone.decode(backbone.encode(pixels_BCHW), width, height).permute(0, 2, 3, 1).cpu().numpy()
        )
    return decoded


def _summary(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    rows = list(rows)
    if not rows:
        return {"n": 0}
    means = {
        "success": [row["edit"].success for row in rows],
        "sharp": [row["edit"].sharp for row in rows],
        "ceiling": [row["ceiling"].success for row in rows],
        "ceiling_sharp": [row["ceiling"].sharp for row in rows],
        "copy": [row["copy"].success for row in rows],
        "copy_sharp": [row["copy"].sharp for row in rows],
        "inside": [row["edit"].inside for row in rows],
        "outside": [row["edit"].outside for row in rows],
    }
    return {"n": len(rows)} | {name: round(float(np.mean(values)), 4) for name, values in means.items()}


def _sessions(
    editor: PictureEditor, wanted: EditRequest, count: int, batch_size: int, watch: Watch | None
) -> dict[str, Any]:
    """Five edits in a row on each picture: success of the last picture, drift after each turn."""
    chains = [world.session(SESSION_START + number, TURNS) for number in range(count)]
    first = [_pixels(chain[0].source) for chain in chains]
    current, untouched = first, [np.ones(pixels.shape[:2], dtype=bool) for pixels in first]
    drift, errors = list[float](), list[float]()
    for turn in range(TURNS):
        # A new seed each turn, since the same one adds its own pattern again and again.
        seeds = [number * TURNS + turn for number in range(count)]
        current = _edit(
            editor, wanted, current, [c[turn].instruction for c in chains], seeds, batch_size, watch
        )
        for number, chain in enumerate(chains):
            untouched[number] &= ~changed(_pixels(chain[turn].source), _pixels(chain[turn].answer))
        moved = [
            float(np.abs(now - start).mean(-1)[still].mean())
            for now, start, still in zip(current, first, untouched, strict=True)
            if still.any()
        ]
        drift.append(round(float(np.mean(moved)), 5) if moved else 0.0)
        errors.append(round(_standard_error(moved), 5))
    scores = [
        score(start, _pixels(chain[-1].answer), now, "session")
        for start, chain, now in zip(first, chains, current, strict=True)
    ]
    return {
        "n": count,
        "turns": TURNS,
        "success": round(float(np.mean([s.success for s in scores])), 4),
        "sharp": round(float(np.mean([s.sharp for s in scores])), 4),
        "drift": drift,
        "drift_error": errors,
    }


def _standard_error(values: Sequence[float]) -> float:
    """The standard error of a mean; 0 where there are no two values."""
    return float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def write(report: dict[str, Any], folder: Path) -> None:
    """Write report.json and grid.png (a kind of edit a row: source, edit, truth).

    Raises:
        EditkitError: where they cannot be written.
    """
    columns, places = 3 * SHOWN, []
    for triples in report["grid"]:
        shown = [_picture(pixels) for triple in triples for pixels in triple]
        places += [*shown, *[None] * (columns - len(shown))]
    sheet, _ = contact_sheet.grid(places, columns)
    images.save(sheet, folder / "grid.png")
    write_report({key: value for key, value in report.items() if key != "grid"}, folder)


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write report.json.

    Raises:
        EditkitError: where it cannot be written.
    """
    with atomic_files.whole(folder / "report.json") as file:
        file.write((json.dumps(report, indent=2) + "\n").encode())
