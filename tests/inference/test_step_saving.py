"""Saved steps: what they compute, where they are exact, and that they can be repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

import editkit
from backbones.flux import Flux
from editkit.backbone import Backbone
from editkit.errors import EditkitError, EditkitWarning
from editkit.imaging import canvas
from editkit.inference import draft, pipeline
from editkit.inference.inputs import prepare
from editkit.inference.planned_batch import Pipeline, PlannedBatch
from editkit.inference.speed import check_steps
from editkit.inference.speed_settings import StepSaving, as_text, parse
from editkit.inference.step_saving import SavedVelocity, Saving
from tests import ROOT
from tests.pictures import difference, image

METHODS = ("kontext", "icedit", "aceplus")
WORDS = "make the red circle blue"
LATE = "full_steps=2,last_steps=0"


def masked(left: int, top: int, right: int, bottom: int) -> Image.Image:
    """A mask of 128x128, white in a box."""
    mask = Image.new("L", (128, 128))
    ImageDraw.Draw(mask).rectangle((left, top, right - 1, bottom - 1), fill=255)
    return mask


def planned(flux: Flux, name: str, speed: StepSaving | None, **fields: Any) -> PlannedBatch:
    """A batch of one edit in six steps."""
    method, options = editkit.Editor(flux, fields.pop("options", {})).method(name)
    made = Pipeline(flux, method, options, None if speed is None else Saving(speed))
    request = editkit.EditRequest(
        image=image(128, 128), instruction=WORDS, method=name, **{"steps": 6, **fields}
    )
    return pipeline.plan_batch(made, [prepare(request)])


def denoised(batch: PlannedBatch) -> list[torch.Tensor]:
    """x_t after each step, the start first."""
    found = [batch.start.x_BLC]
    pipeline.denoise(
        batch.velocity, batch.start, batch.times, on_step=lambda state, _: found.append(state.x_BLC)
    )
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", METHODS)
def test_a_speed_may_cache_the_context(random_flux: Flux, name: str) -> None:
    own = {} if name == "kontext" else {"encoding": "mode"}
    cached = editkit.Editor(random_flux, {name: {**own, "context": "cached"}})
    joint = editkit.Editor(random_flux, {name: own})
    request = editkit.EditRequest(
        image=image(128, 128),
        instruction=WORDS,
        method=name,
        seed=3,
        steps=6,
        references=[image(64, 64)] if name == "aceplus" else [],
    )
    wanted = cached.run(request).image
    found = joint.run(replace(request, speed="context=cached,region=false")).image
    assert difference(found, wanted) <= 1
    assert difference(joint.run(request).image, wanted) > 1
    again = joint.run(replace(request, speed="context=cached,full_steps=2"))
    assert "context=cached" in again.recipe["speed"]
    assert again.recipe["options"]["context"] == "joint", "the speed says the rest"


@torch.no_grad()
@pytest.mark.parametrize("name", METHODS)
def test_full_steps_are_exact(random_flux: Flux, name: str) -> None:
    exact = denoised(planned(random_flux, name, None))
    full = denoised(planned(random_flux, name, StepSaving(full_steps=6)))
    assert torch.equal(exact[-1], full[-1])
    some = denoised(planned(random_flux, name, StepSaving(full_steps=2), mask=masked(0, 0, 64, 64)))
    exact = denoised(planned(random_flux, name, None, mask=masked(0, 0, 64, 64)))
    assert torch.allclose(exact[2], some[2], atol=1e-5), "keeping changes nothing"
    assert not torch.equal(exact[-1], some[-1])


@torch.no_grad()
@pytest.mark.parametrize("name", METHODS)
def test_outside_the_mask_tokens_take_their_one_step_prediction(random_flux: Flux, name: str) -> None:
    settings = StepSaving(full_steps=2, last_steps=0, grow=0)
    batch = planned(random_flux, name, settings, mask=masked(32, 32, 64, 64), options={name: {}})
    path, times = denoised(batch), batch.times.tolist()
    velocity_BLC = (path[2] - path[1]) / (times[2] - times[1])
    predicted_BLC = path[2] - times[2] * velocity_BLC
    count = path[0].shape[1]
    inside = canvas.answer_tokens(torch.arange(count)[None, :, None], batch.plan.canvas)[0, :, 0]
    inside = inside.view(8, 8)[2:4, 2:4].flatten()
    outside = torch.tensor([place for place in range(count) if place not in set(inside.tolist())])
    assert torch.allclose(path[-1][:, outside], predicted_BLC[:, outside], atol=1e-4)
    assert not torch.allclose(path[-1][:, inside], predicted_BLC[:, inside], atol=1e-2)
    assert isinstance(batch.velocity, SavedVelocity)
    assert batch.velocity.computed == [count] * 2 + [4] * 4


@torch.no_grad()
def test_a_last_full_step_reaches_every_token(random_flux: Flux) -> None:
    settings = StepSaving(full_steps=2, last_steps=1, refresh=1, grow=1)
    batch = planned(random_flux, "kontext", settings, mask=masked(32, 32, 64, 64))
    denoised(batch)
    assert isinstance(batch.velocity, SavedVelocity)
    assert batch.velocity.computed == [64, 64, 16, 64, 16, 64]


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:context=cached")
@pytest.mark.parametrize("name", ["kontext", "icedit"])
def test_a_cached_context_is_exact_where_all_tokens_are_computed(random_flux: Flux, name: str) -> None:
    """It depends on neither time nor canvas, so keeping it loses nothing."""
    options = {name: {"context": "cached"} | ({"encoding": "mode"} if name == "icedit" else {})}
    exact = denoised(planned(random_flux, name, None, options=options))
    settings = StepSaving(full_steps=1, last_steps=0, region=False)
    saved = denoised(planned(random_flux, name, settings, options=options))
    assert torch.allclose(exact[-1], saved[-1], atol=1e-4)
    part = denoised(
        planned(random_flux, name, StepSaving(full_steps=1), options=options, mask=masked(0, 0, 48, 48))
    )
    assert torch.isfinite(part[-1]).all()
    assert not torch.allclose(exact[-1], part[-1], atol=1e-2)


@torch.no_grad()
def test_unchanged_tokens_are_found_without_a_mask(random_flux: Flux) -> None:
    nothing = planned(random_flux, "kontext", StepSaving(full_steps=2, threshold=1e6))
    everything = planned(random_flux, "kontext", StepSaving(full_steps=2, threshold=1e-6))
    for batch, count in ((nothing, 0), (everything, 64)):
        denoised(batch)
        assert isinstance(batch.velocity, SavedVelocity)
        assert batch.velocity.computed == [64, 64, count, count, count, 64]


@torch.no_grad()
@pytest.mark.parametrize("name", METHODS)
def test_a_draft_at_half_the_side_says_what_changes(random_flux: Flux, name: str) -> None:
    nothing = planned(random_flux, name, StepSaving(full_steps=1, draft=2, threshold=1e6))
    everything = planned(random_flux, name, StepSaving(full_steps=1, draft=2, threshold=1e-6))
    count = everything.start.x_BLC.shape[1]
    for batch, cells in ((nothing, 0), (everything, 64)):
        denoised(batch)
        assert isinstance(batch.velocity, SavedVelocity)
        assert batch.velocity.computed == [count, cells, cells, cells, cells, count]


@torch.no_grad()
def test_a_draft_finds_cells_of_two_tokens_a_side(random_flux: Flux) -> None:
    batch = planned(random_flux, "kontext", None)
    drafts = [StepSaving(draft=2, grow=0, threshold=1.1**power) for power in range(-4, 16)]
    found = [draft.changed_cells(batch.pipeline, batch.inputs, batch.plan, each, 1.0) for each in drafts]
    some = [cells_BN.view(8, 8) for cells_BN in found if 0 < cells_BN.sum() < 64]
    assert some, "a threshold between all and nothing"
    for cells_hw in some:
        assert torch.equal(cells_hw, cells_hw[::2, ::2].repeat_interleave(2, 0).repeat_interleave(2, 1))
    again = draft.changed_cells(batch.pipeline, batch.inputs, batch.plan, drafts[0], 1.0)
    assert torch.equal(again, found[0]), "a draft is the same each time"


def test_a_batch_gives_what_single_edits_give(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    masks = (masked(0, 0, 48, 48), masked(64, 64, 128, 128))
    requests = [
        editkit.EditRequest(
            image=image(128, 128, seed), instruction=WORDS, mask=mask, seed=seed, steps=4, speed=LATE
        )
        for seed, mask in enumerate(masks)
    ]
    together = editor.edit_many(requests)
    for request, result in zip(requests, together, strict=True):
        assert result.image is not None, result.error
        assert difference(editor.run(request).image, result.image) <= 1


def test_negative_prompts_have_keys_of_their_own(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    given = {"mask": masked(0, 0, 64, 64), "steps": 4, "preserve": False}
    one = editor.edit(image(128, 128), WORDS, speed=LATE, negative="red", **given).image
    two = editor.edit(image(128, 128), WORDS, speed=LATE, **given).image
    assert difference(one, two) > 1


@pytest.mark.parametrize("mode", ["continue", "restart"])
def test_the_winner_of_a_search_is_that_seeds_edit(random_flux: Flux, mode: str) -> None:
    editor = editkit.Editor(random_flux)
    search = {"seeds": 3, "mode": mode, "preview_steps": 3}
    found = editor.edit(image(128, 128), WORDS, steps=6, speed=LATE, search=search)
    alone = editor.edit(image(128, 128), WORDS, steps=6, speed=found.recipe["speed"], seed=found.seed)
    assert difference(found.image, alone.image) <= 1


def test_the_recipe_repeats_the_edit(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    assert editor.edit(image(128, 128), WORDS, steps=2).recipe["speed"] == "exact"
    first = editor.edit(image(128, 128), WORDS, steps=4, speed="full_steps=2, region=false")
    assert first.recipe["speed"] == as_text(StepSaving(full_steps=2, region=False))
    again = editor.edit(image(128, 128), WORDS, steps=4, speed=first.recipe["speed"])
    assert difference(first.image, again.image) == 0


@pytest.mark.slow
def test_compiled_blocks_save_steps_too() -> None:
    plain, compiled = (editkit.load("tiny", device="cpu", **how) for how in ({}, {"compile": True}))
    for speed in ("full_steps=2", "full_steps=1,region=false"):
        found = [
            each.edit("demos/samples/red_circle.png", WORDS, steps=4, seed=0, speed=speed).image
            for each in (plain, compiled)
        ]
        assert difference(*found) <= 1, speed


def test_a_loaded_cache_of_blocks_is_refused_before_a_draft(random_pipeline: str) -> None:
    cache = {"type": "FirstBlockCacheConfig", "threshold": 0.05}
    editor = editkit.load(str(random_pipeline), "cpu", cache=cache)
    for speed in ("full_steps=1,draft=2", "full_steps=2"):
        with pytest.raises(
            EditkitError, match="do not go together with the loading option `cache`; leave one"
        ):
            editor.edit(image(128, 128), WORDS, steps=2, speed=speed)


def test_a_context_that_is_not_there_saves_nothing_and_says_so(random_flux: Flux) -> None:
    """ACE++'s picture joins on channels, and only its references are tokens beside the answer's."""
    request = editkit.EditRequest(
        image=image(128, 128), instruction=WORDS, method="aceplus", steps=3, speed="full_steps=1,region=false"
    )
    editor = editkit.Editor(random_flux)
    assert any("this speed saves nothing" in note for note in editor.run(request).notes)
    beside = replace(request, references=[image(64, 64)])
    assert not any("this speed saves nothing" in note for note in editor.run(beside).notes)


def test_text_to_image_saves_nothing_and_says_so(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    with pytest.warns(EditkitWarning, match="this speed saves nothing"):
        made = editor.edit(None, WORDS, size=(128, 128), steps=3, speed=LATE)
    assert difference(made.image, editor.edit(None, WORDS, size=(128, 128), steps=3).image) == 0


@pytest.mark.parametrize(
    ("speed", "problem"),
    [
        ("quick", "There is no speed called 'quick'; there are exact, balanced, fast"),
        ("full_step=2", "did you mean 'full_steps'"),
        ("full_steps=0", "full_steps must be at least 1, not 0"),
        ("threshold=0", "threshold must be positive"),
        ("draft=-1", "draft must be at least 0, not -1"),
        ("draft=2,region=false", "draft finds a region"),
        ("full_steps=2,", "speed=full_steps=2, is not allowed; give settings as key=value, with commas"),
        (3, "speed=3 is not allowed; give exact, balanced, fast, or settings key=value"),
        ("fast", "No settings of speed=fast were measured for kontext on this backbone"),
    ],
)
def test_wrong_speeds_are_refused(random_flux: Flux, speed: Any, problem: str) -> None:
    with pytest.raises(EditkitError, match=problem):
        editkit.Editor(random_flux).edit(image(128, 128), WORDS, steps=1, speed=speed)


def test_context_of_weights_trained_without_it_is_told(random_flux: Flux) -> None:
    with pytest.warns(
        EditkitWarning, match="context=cached spoils the picture unless .* train one for kontext"
    ):
        planned(random_flux, "kontext", None, options={"kontext": {"context": "cached"}})


@pytest.mark.parametrize(("lora", "told"), [({}, True), ({"methods/icedit/tiny/lora": 0.5}, False)])
def test_a_default_adapter_does_not_know_a_cached_context(
    tiny: Backbone, lora: dict[str, float], told: bool
) -> None:
    request = editkit.EditRequest(
        image=image(128, 128), instruction=WORDS, method="icedit", steps=1, speed="context=cached"
    )
    own = {str(ROOT / path): scale for path, scale in lora.items()}  # it may have been trained for it
    notes = editkit.Editor(tiny, {"icedit": {"encoding": "mode"}}, own).run(request).notes
    assert any("context=cached spoils the picture" in note for note in notes) is told, notes


def test_weights_that_know_a_cached_context_need_no_word(tiny: Backbone) -> None:
    request = editkit.EditRequest(
        image=ROOT / "demos/samples/red_circle.png",
        instruction=WORDS,
        steps=1,
        speed="context=cached,region=false",
    )
    assert editkit.Editor(tiny).run(request).notes == ()


def test_another_number_of_steps_than_measured_is_told() -> None:
    with pytest.warns(EditkitWarning, match="was measured with 8 steps and may lose more with 3"):
        check_steps("balanced", "tiny", "kontext", 3)
    check_steps("balanced", "tiny", "kontext", 8)
    check_steps("full_steps=2", "tiny", "kontext", 3)


def test_a_search_tells_of_another_number_of_steps_once(tiny: Backbone) -> None:
    request = editkit.EditRequest(
        image=image(128, 128), instruction=WORDS, speed="balanced", search={"seeds": 2, "preview_steps": 1}
    )
    editor = editkit.Editor(tiny)
    told = editor.run(replace(request, steps=2, guidance=2.0)).notes
    assert sum("was measured with 8 steps and may lose more with 2" in note for note in told) == 1, told
    assert sum("was trained without guidance" in note for note in told) == 1, told


@pytest.mark.parametrize(
    "settings",
    [
        StepSaving(threshold=0.12345678, draft=1_000_000),
        StepSaving(threshold=1e-9, grow=12_345_678, context="cached"),
        StepSaving(full_steps=2, region=False),
    ],
)
def test_settings_are_written_with_all_digits(settings: StepSaving) -> None:
    assert parse(as_text(settings)) == settings
    assert parse(as_text(settings).replace("=", " = ").replace(",", " , ")) == settings
