"""Drafts, which come before an edit: they are watched, and the area that they find has a bound."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import editkit
from backbones.flux import Flux
from editkit.imaging import canvas
from editkit.inference.progress import Progress
from tests.pictures import difference, image

WORDS = "make the red circle blue"


def test_a_watcher_sees_the_steps_of_a_draft_and_can_end_them(random_flux: Flux) -> None:
    editor, seen = editkit.Editor(random_flux), []
    asked: dict[str, Any] = {"seed": 5, "steps": 4, "speed": "draft=3,full_steps=1"}

    def watch(progress: Progress) -> None:
        seen.append((progress.step, progress.steps, progress.seeds))
        if progress.step == 0:
            assert progress.preview() == []
        if asked["speed"].startswith("draft=10000"):
            raise KeyboardInterrupt

    editor.edit(image(128, 128), WORDS, watch=watch, **asked)
    assert seen == [(step, 4, (5,)) for step in (0, 0, 0, 1, 2, 3, 4)]
    seen.clear()
    asked["speed"] = "draft=10000,full_steps=1"
    with pytest.raises(KeyboardInterrupt):
        editor.edit(image(128, 128), WORDS, watch=watch, **asked)
    with pytest.raises(KeyboardInterrupt):
        editor.edit(image(128, 128), WORDS, watch=watch, **asked, search={"seeds": 2})
    assert seen == [(0, 4, (5,)), (0, 4, (5, 6))]


def test_seeds_of_one_edit_share_a_draft(random_flux: Flux) -> None:
    """And so they give what each gives alone."""
    editor, rows = editkit.Editor(random_flux), list[int]()
    asked: dict[str, Any] = {
        "image": image(128, 128),
        "steps": 3,
        "speed": "draft=2,full_steps=1,threshold=1",
    }
    requests = [
        editkit.EditRequest(instruction=words, seed=seed, **asked)
        for words, seed in ((WORDS, 0), (WORDS, 1), ("make the red circle green", 1))
    ]
    embedder = random_flux.transformer("kontext").x_embedder
    handle = embedder.register_forward_hook(lambda *call: rows.append(len(call[2])))
    try:
        together = editor.edit_many(requests[:2])
        assert rows[:3] == [1, 1, 2]
        rows.clear()
        editor.edit_many(requests[1:])
        assert rows[:3] == [2, 2, 2], "other words change other places"
    finally:
        handle.remove()
    for request, result in zip(requests[:2], together, strict=True):
        assert difference(editor.run(request).image, result.image) <= 1


def test_an_area_grows_over_a_whole_picture_at_most() -> None:
    """Memory must not grow with the reach, which a request gives."""
    for height, width in ((3, 7), (7, 3)):
        mask_B1HW = torch.zeros(2, 1, height, width, dtype=torch.bool)
        mask_B1HW[0, 0, 0, 0] = True
        for reach in (6, 10**12):
            assert canvas.dilate(mask_B1HW, reach).sum((1, 2, 3)).tolist() == [21, 0]
        assert canvas.dilate(mask_B1HW, 4).sum((1, 2, 3)).tolist() == [15, 0]
