"""Tasks, their prompts and placeholders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import editkit
from backbones import random_encoders
from backbones.flux import Flux
from editkit import EditkitError
from editkit.imaging import canvas
from editkit.types import Conditioning, Text
from methods.aceplus import tasks
from methods.aceplus.conditioner import ACEPlan
from methods.aceplus.config import PLACEHOLDERS
from tests.methods.aceplus.plans import conditioner, inputs
from tests.pictures import difference, image, photo


def test_references_have_their_placeholders() -> None:
    heard: list[Any] = []

    class Listening:
        """Takes every word as a token."""

        def has_room_for(self, placeholders: Any) -> bool:
            return True

        def text(self, prompts: Any, placeholders: Any = ()) -> Text:
            heard.append((tuple(prompts), tuple(placeholders)))
            return Text(tokens_BTD=torch.zeros(len(prompts), 4, 8), pooled_BD=torch.zeros(len(prompts), 8))

    listening: Any = Listening()
    options = {"layout": "sequence", "unit_prompts": True}
    plan: Any = type("Plan", (), {})
    task = tasks.choose("portrait", image=False, mask=False, references=True)
    plan = ACEPlan(
        canvas=canvas.fit((64, 64)), conditioning=Conditioning(), role="fill", task=task, widths=(64, 64)
    )
    conditioner(listening, **options).with_text(
        plan, ["{image1} is a dog\nA girl", "a cat\nMaintain the facial features. A girl"]
    )
    assert heard == [
        (("Maintain the facial features. A girl",) * 2, PLACEHOLDERS),
        (("{image1} is a dog", "a cat"), PLACEHOLDERS),
    ]


def test_encoders_that_were_let_go_stay_away(tmp_path: Path) -> None:
    flux = editkit.load("tiny", "cpu").backbone
    made = conditioner(flux)
    plan = made.plan_without_text(inputs())
    flux.cache_texts(tmp_path)
    made.with_text(plan, ["make it red"])
    flux.use_components_of("fill")
    flux.free()
    made.with_text(plan, ["make it red"])
    assert flux._encoders is None


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("", "generation"),
        ("image", "instruction"),
        ("image mask", "local_editing"),
        ("references", "subject"),
        ("image mask references", "local_reference"),
        ("image references", "local_reference"),
    ],
)
def test_the_task_follows_from_what_is_given(given: str, name: str) -> None:
    there = {what: what in given for what in ("image", "mask", "references")}
    assert tasks.choose(None, **there).name == name


def test_a_task_says_what_it_needs() -> None:
    with pytest.raises(EditkitError, match="needs references for the task portrait"):
        tasks.choose("portrait", image=True, mask=False, references=False)
    with pytest.raises(EditkitError, match="needs image and mask for the task repainting"):
        tasks.choose("repainting", image=False, mask=False, references=False)


@pytest.mark.parametrize("name", ["portrait", "subject", "generation"])
def test_a_new_picture_is_not_painted_over_a_given_one(random_flux: Flux, name: str) -> None:
    """Without a mask nothing of the given one would be seen."""
    editor, given = editkit.Editor(random_flux), {"references": [image(64, 64, 9)], "task": name, "steps": 1}
    with pytest.raises(EditkitError, match=f"all of the picture for the task {name}; give a mask, or leave"):
        editor.edit(image(64, 64), "on a beach", "aceplus", **given)
    mask = Image.new("L", (64, 64), 255)
    assert editor.edit(image(64, 64), "on a beach", "aceplus", mask=mask, **given).image is not None
    assert editor.edit(None, "on a beach", "aceplus", size=(64, 64), **given).image is not None


def test_tasks_of_requests(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    picture, mask = image(64, 64), Image.new("L", (64, 64), 255)
    found = [
        editor.edit(picture, "a red circle", "aceplus", task=task, mask=mask, steps=2)
        for task in ("repainting", "local_editing", "recolouring", "mosaic", None)
    ]
    assert [result.recipe["task"] for result in found][-2:] == ["mosaic", None]
    assert difference(found[1].image, found[4].image) == 0
    for other in (found[0], found[2], found[3]):
        assert difference(found[1].image, other.image) > 5
    with pytest.raises(EditkitError, match=r"no task of aceplus called 'recoluring'.*did you mean"):
        editor.edit(picture, "a red circle", "aceplus", task="recoluring")
    with pytest.raises(EditkitError, match="kontext has no tasks"):
        editor.edit(picture, "a red circle", "kontext", task="subject")


def test_official_prompts(random_flux: Flux) -> None:
    asked: list[str] = []
    extra: list[tuple[str, ...]] = []

    class Listening:
        def has_room_for(self, words: Any) -> bool:
            return True

        def text(self, prompts: list[str], placeholders: Any) -> Any:
            asked.extend(prompts)
            extra.append(tuple(placeholders))
            return random_flux.text(["red"])

        def __getattr__(self, name: str) -> Any:
            return getattr(random_flux, name)

    flux: Any = Listening()
    reference = (photo(64, 64, 1),)
    for more in ({}, {"task": "portrait", "references": reference, "mask": True}, {"references": reference}):
        conditioner(flux).plan(inputs(**more))
    conditioner(flux, placeholders=["{image}"]).plan(inputs())
    portrait = "Maintain the facial features. make it red"
    assert asked == ["{image} make it red", portrait, "make it red", "{image} make it red"]
    assert extra == [PLACEHOLDERS] * 3 + [("{image}",)]


def test_placeholders_are_tokens_where_there_is_room() -> None:
    from tests.random_weights import CLIP, T5

    words = ["make", "it", "red", *(f"spare{n}" for n in range(20))]
    encoders = random_encoders.random_encoders(words, letters="A", clip=CLIP, t5=T5, length=16)
    assert not encoders.has_room_for(PLACEHOLDERS)
    plain = encoders(["{image} make it red"]).tokens_BTD
    first = len(encoders.t5_tokenizer)
    encoders.t5.resize_token_embeddings(first + len(PLACEHOLDERS))
    assert encoders.has_room_for(PLACEHOLDERS)
    ids = [
        encoders._with(words)("{image} make it red").input_ids[0]
        for words in (PLACEHOLDERS, ("{image}",), PLACEHOLDERS)
    ]
    assert ids == [first + 1, first, first + 1]
    # Nobody else's prompts are read differently for it.
    assert "{image}" not in encoders.t5_tokenizer.get_added_vocab()
    assert torch.equal(encoders(["{image} make it red"]).tokens_BTD, plain)
    assert not torch.equal(encoders(["{image} make it red"], PLACEHOLDERS).tokens_BTD, plain)
