"""Edits in batches: each as it is alone, bad ones fail alone, and memories change nothing."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import editkit
from backbones.flux import Flux
from editkit import EditkitError, EditRequest
from tests.pictures import difference, image

WORDS = (
    "make the red circle blue",
    "remove the green square",
    "add a small star",
    "draw a triangle",
    "move it",
)


@pytest.fixture(scope="module")
def editor(random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux)


def request(place: int, of: tuple[int, int] = (40, 30), **changes: Any) -> EditRequest:
    values: dict[str, Any] = {
        "image": image(*of, place),
        "instruction": WORDS[place % 5],
        "seed": place,
        "steps": 2,
    }
    return EditRequest(**values | changes)


def test_a_batch_gives_what_single_edits_give(editor: editkit.Editor) -> None:
    requests = [request(place, mask=Image.new("L", (40, 30), 255), negative="a star") for place in range(4)]
    results = editor.edit_many(requests)
    for one, result in zip(requests, results, strict=True):
        assert result.image is not None, result.error
        assert difference(result.image, editor.run(one).image) <= 1
        assert result.seed == result.recipe["seed"] == one.seed
        assert result.recipe["instruction"] == one.instruction
    assert difference(results[0].image, results[1].image) > 10


def test_many_edits_keep_their_order_and_fail_alone(editor: editkit.Editor) -> None:
    requests = [
        request(0),
        request(1, (33, 50)),
        request(2, image="nowhere.png"),
        request(3),
        request(4, method="kontex"),
        request(5, (33, 50), preserve=True),
        request(6, image=None, instruction="a red circle", size=(64, 64)),
        request(7, guidance=3e38),  # infinite inside the network
        request(8),
    ]
    results = editor.edit_many(requests, batch_size=2)
    assert [result.seed for result in results] == list(range(9))
    failed = {place: result.error for place, result in enumerate(results) if result.image is None}
    assert failed.keys() == {2, 4, 7}
    assert "nowhere.png" in failed[2]
    assert "'kontext'" in failed[4]
    assert "finite" in failed[7]
    for place, (one, result) in enumerate(zip(requests, results, strict=True)):
        if place not in failed:
            assert result.error is None
            assert difference(result.image, editor.run(one).image) <= 1
            assert result.image.size == (one.image.size if one.image else (64, 64))


def test_a_batch_that_fails_is_tried_one_by_one(random_flux: Flux) -> None:
    damaged = copy.copy(random_flux)
    damaged.transformers = dict(random_flux.transformers)
    broken = copy.deepcopy(random_flux.transformer("kontext"))
    damaged.transformers[damaged.role("kontext").key] = broken
    broken.context_embedder.register_forward_hook(_nan_for_second_word)
    results = editkit.Editor(damaged).edit_many([request(place) for place in range(4)])
    assert [result.image is None for result in results] == [False, True, False, False]
    assert "finite" in results[1].error


def _nan_for_second_word(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """Damage that one instruction alone meets: the second of `WORDS` in a batch of four, or by itself."""
    output = output.clone()
    if len(output) == 4:
        _nan_for_second_word.token = output[1].clone()
        output[1] = math.nan
    elif torch.allclose(output[0], _nan_for_second_word.token, atol=1e-4):
        output[0] = math.nan
    return output


def test_seeds(editor: editkit.Editor) -> None:
    first, again = editor.run(request(0, seed=3)), editor.run(request(0, seed=3))
    other = editor.run(request(0, seed=4))
    assert difference(first.image, again.image) == 0
    assert first.recipe == again.recipe
    assert difference(first.image, other.image) > 10


def test_warm_memories_change_nothing(random_pipeline: Path) -> None:
    editor = editkit.load(str(random_pipeline), "cpu")
    cold = editor.run(request(0, negative="two stars"))
    editor.run(request(1, (50, 70)))
    warm = editor.run(request(0, negative="two stars"))
    assert difference(cold.image, warm.image) == 0
    assert len(editor.backbone._texts) == 3
    assert len(editor.backbone._latents) == 2


def test_unknown_option_of_a_method(random_flux: Flux) -> None:
    with pytest.raises(EditkitError, match="'layout'"):
        editkit.Editor(random_flux, {"kontext": {"layuot": "index"}})


@pytest.mark.parametrize("method", ["kontext", "aceplus"])
def test_pictures_from_text_have_the_size_asked_for(editor: editkit.Editor, method: str) -> None:
    result = editor.edit(None, "a red circle", method, steps=1, size=(64, 96))
    assert result.image.size == (64, 96)
