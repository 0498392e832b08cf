"""Success on held-out ShapesWorld edits under masks and from references, by task."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from editkit import registry
from editkit import shapesworld as world
from editkit.errors import EditkitError, unknown
from editkit.inference.editor import PictureEditor
from editkit.inference.progress import Watch
from editkit.shapesworld.masked import NAMES
from editkit.shapesworld.records import masked_record
from editkit.shapesworld.scores import Score, score


def evaluate(
    editor: PictureEditor,
    method: str,
    names: Sequence[str] = (),
    *,
    n: int,
    steps: int | None = None,
    negative: str | None = None,
    batch_size: int = 32,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Edit the first `n` held-out examples of each kind as a person would ask for them, one seed each.

    Args:
        editor: with any backbone.
        method: one with tasks.
        names: of `editkit.shapesworld.masked.NAMES`; all of `MASKED` where empty.
        n: examples of each.
        steps: the default where None.
        negative: the negative prompt of all edits, as in `EditRequest`.
        batch_size: edits that run together.
        watch: told of each step of each batch.

    Returns:
        A JSON-able report by name; `moved` is the largest difference outside masks, in levels of 255.

    Raises:
        EditkitError: for a method without tasks, an unknown name, an `n` out of range, or a failed edit.
    """
    if not editor.method(method)[0].tasks:
        able = [name for name in registry.method_names() if registry.method(name).tasks]
        raise EditkitError(f"{method} has no tasks; choose {' or '.join(able)}.")
    if not 1 <= n <= world.HELD_OUT.stop:
        raise EditkitError(f"n={n} leaves the held-out seeds; give 1 to {world.HELD_OUT.stop}.")
    for name in names:
        if name not in NAMES:
            raise EditkitError(unknown("kind of masked example called", name, NAMES))
    report: dict[str, Any] = {"method": method, "backbone": editor.backbone.name, "n": n}
    report |= {"negative": negative, "kinds": {}}
    for name in names or world.MASKED:
        held_out = [world.masked_example(seed, name) for seed in range(n)]
        start = time.perf_counter()
        asked = [masked_record(e).request(method, e.seed, steps) for e in held_out]
        results = editor.edit_many(
            [replace(each, negative=negative) for each in asked], batch_size=batch_size, watch=watch
        )
        seconds = (time.perf_counter() - start) / n
        if errors := [result.error for result in results if result.error]:
            raise EditkitError(str(errors[0]))
        pictures = [result.image for result in results if result.image is not None]
        report["kinds"][name] = _row(held_out, pictures) | {"seconds": round(seconds, 4)}
    return report


def _row(held_out: Sequence[world.MaskedExample], edited: Sequence[Image.Image]) -> dict[str, Any]:
    scores, moved = [], 0
    for example, picture in zip(held_out, edited, strict=True):
        seen, answer, made = (
            np.asarray(each, dtype=np.float32) / np.float32(255)
            for each in (example.seen(), world.render(example.answer), picture)
        )
        scores.append(score(seen, answer, made, example.kind))
        if example.mask is not None:
            change = np.abs(np.asarray(picture, dtype=int) - example.seen())
            moved = max(moved, int(change[example.mask == 0].max()))
    by_kind: dict[str, list[Score]] = {}
    for example, found in zip(held_out, scores, strict=True):
        by_kind.setdefault(example.kind, []).append(found)
    return {
        "n": len(scores),
        **_shares(scores),
        "inside": float(np.mean([found.inside for found in scores])),
        "outside": float(np.mean([found.outside for found in scores])),
        "moved": moved,
        "kinds": {kind: {"n": len(found)} | _shares(found) for kind, found in sorted(by_kind.items())},
    }


def _shares(scores: Sequence[Score]) -> dict[str, float]:
    return {
        "success": float(np.mean([found.success for found in scores])),
        "sharp": float(np.mean([found.sharp for found in scores])),
    }
