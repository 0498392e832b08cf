"""Promises of every method about its edits."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch
from PIL import Image

import editkit
from backbones.flux import Flux
from editkit.imaging import canvas, images
from editkit.method import Method
from editkit.types import EditRequest
from tests.contract.asked import USUAL, WORDS, named
from tests.pictures import difference, image


@pytest.mark.parametrize("size", [(128, 128), (97, 61), (1, 1), (300, 20)])
def test_edit_keeps_the_size(method: Method, editor: editkit.Editor, size: tuple[int, int]) -> None:
    result = editor.edit(image(*size), WORDS[0], method.name, steps=1)
    assert result.image.size == size
    assert result.image.mode == "RGB"
    assert result.method == result.recipe["method"] == method.name


def test_edit_is_repeatable(method: Method, editor: editkit.Editor) -> None:
    picture = image(97, 61)
    first, again, other = (
        editor.edit(picture, WORDS[0], method.name, steps=2, seed=seed) for seed in (1, 1, 2)
    )
    assert difference(first.image, again.image) == 0
    assert first.recipe == again.recipe
    assert difference(first.image, other.image) > 10


def test_what_lies_outside_the_mask_stays(method: Method, editor: editkit.Editor) -> None:
    picture, mask = image(97, 61), Image.new("L", (97, 61))
    mask.paste(255, (20, 10, 70, 50))
    result = editor.edit(picture, WORDS[0], method.name, steps=2, mask=mask).image
    black = Image.new("RGB", picture.size)
    outside = [Image.composite(black, each, mask) for each in (result, picture)]
    assert difference(*outside) == 0
    assert difference(result, picture) > 10
    free = editor.edit(picture, WORDS[0], method.name, steps=2, mask=mask, preserve=False).image
    assert difference(Image.composite(black, free, mask), outside[1]) > 10


def test_preserve_without_a_mask_keeps_what_did_not_change(method: Method, editor: editkit.Editor) -> None:
    # A random network repaints everything; what it painted before, it paints much the same again.
    picture = editor.edit(image(97, 61), WORDS[0], method.name, steps=2, seed=2).image
    picture.paste(image(97, 61).crop((0, 0, 40, 61)))
    free = editor.edit(picture, WORDS[0], method.name, steps=2, seed=2).image
    kept = editor.edit(picture, WORDS[0], method.name, steps=2, seed=2, preserve=True).image
    source, edited, result = (images.tensor(images.load_image(each)) for each in (picture, free, kept))
    # Looser than the edit itself by more than a level, which is what pictures are rounded to.
    same = (canvas.change_mask(source, edited, threshold=0.09, grow=3) == 0).expand_as(source)
    assert same.any()
    assert torch.equal(result[same], source[same])
    assert not torch.equal(edited[same], source[same])
    assert difference(kept, picture) > 10


def test_alpha_stays(method: Method, editor: editkit.Editor) -> None:
    picture = image(50, 40)
    picture.putalpha(Image.linear_gradient("L").resize((50, 40)))
    result = editor.edit(picture, WORDS[0], method.name, steps=1).image
    assert result.mode == "RGBA"
    assert result.getchannel("A").tobytes() == picture.getchannel("A").tobytes()


@pytest.mark.filterwarnings("ignore:.*is shifted by")
def test_switching_loads_nothing_twice() -> None:
    editor = editkit.load("tiny", "cpu")

    def held() -> set[int]:
        for record in editkit.methods():
            editor.edit(image(64, 64), WORDS[0], record.name, steps=1)
        return {id(p) for each in editor.backbone.transformers.values() for p in each.parameters()}

    first = held()
    assert len(editor.backbone.transformers) <= len({record.role for record in editkit.methods()})
    assert held() == first


@pytest.mark.parametrize("given", [{}, {"mask": True}, {"references": True}], ids=" ".join)
def test_a_batch_gives_what_single_edits_give(
    method: Method, editor: editkit.Editor, given: dict[str, bool]
) -> None:
    asked = [
        EditRequest(
            image=image(40, 30, place),
            instruction=words,
            method=method.name,
            seed=place,
            steps=2,
            mask=Image.new("L", (40, 30), 255) if given.get("mask") else None,
            references=[image(30, 30, 9 + place)] if given.get("references") else [],
        )
        for place, words in enumerate(WORDS)
    ]
    together = editor.edit_many(asked)
    for one, result in zip(asked, together, strict=True):
        (alone,) = editor.edit_many([one])
        assert (result.error is None) == (alone.error is None)
        if result.image is not None:
            assert difference(result.image, alone.image) <= 1


@pytest.mark.parametrize("case", USUAL, ids=named)
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"instruction": " "}, "instruction is empty"),
        ({"image": "absent.png"}, r"absent\.png"),
        ({"mask": "absent.png"}, r"absent\.png"),
        ({"steps": 0}, "steps=0"),
        ({"task": "no such task"}, "no such task|no tasks"),
        ({"references": "abc"}, "list of pictures"),
    ],
)
def test_bad_requests_fail_alone(
    method: Method, editor: editkit.Editor, asked: dict[str, object], words: str
) -> None:
    good = {"image": image(40, 30), "instruction": WORDS[0], "method": method.name, "steps": 1}
    requests = [EditRequest(**(good | asked)), EditRequest(**good)]
    bad, fine = editor.edit_many(requests)
    assert bad.image is None
    assert re.search(words, bad.error)
    assert bad.error.endswith(".")
    assert fine.image.size == (40, 30)


def test_negative_prompts_push_away(
    method: Method, options: dict[str, Any], editor: editkit.Editor, random_flux: Flux
) -> None:
    """With the scale 1 they are without effect; a method without that option refuses them."""
    asked = {"image": image(64, 64), "instruction": WORDS[0], "method": method.name, "steps": 2}

    def edited(scale: float, **more: str) -> Image.Image:
        guided = editkit.Editor(random_flux, {method.name: options | {"true_cfg": scale}})
        return guided.edit(**asked, **more).image

    if "true_cfg" not in {field.name for field in dataclasses.fields(method.config)}:
        with pytest.raises(editkit.EditkitError, match="no negative prompt"):
            editor.edit(**asked, negative="")
        return
    plain = editor.edit(**asked).image
    for negative in ("", WORDS[1]):
        assert difference(edited(1.0, negative=negative), plain) <= 1
        assert difference(edited(6.0, negative=negative), plain) > 1
    assert edited(6.0).tobytes() == plain.tobytes()
    with pytest.raises(editkit.EditkitError, match="true_cfg must be a finite number"):
        edited(float("nan"))
