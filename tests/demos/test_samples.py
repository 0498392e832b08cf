"""Behaviour: what the page's samples promise, the embedded model does."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import editkit
from demos import draw_samples
from demos.samples import SAMPLES, Sample
from editkit import shapesworld
from editkit.shapesworld import scores
from editkit.shapesworld.masked import MaskedExample, masked_example


def example(sample: Sample) -> shapesworld.Example | MaskedExample | None:
    """What a sample was drawn from; None for the few that are older than the script."""
    if sample.name in draw_samples.EDITS:
        kind, seed = draw_samples.EDITS[sample.name]
        return shapesworld.example(seed, kind)
    if sample.name in draw_samples.MASKED:
        kind, seed = draw_samples.MASKED[sample.name]
        return masked_example(seed, kind)
    return None


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_files_are_there_and_as_drawn(sample: Sample) -> None:
    drawn = example(sample)
    picture = np.asarray(Image.open(sample.picture).convert("RGB"))
    for file in (sample.paint, sample.reference, sample.shown):
        assert file is None or file.is_file()
    if drawn is not None:
        assert drawn.source is not None
        assert drawn.instruction == sample.instruction
        assert np.array_equal(picture, shapesworld.render(drawn.source))


def test_every_method_shows_its_strength() -> None:
    alone = {sample.methods[0] for sample in SAMPLES if len(sample.methods) == 1}
    assert alone == {method.name for method in editkit.methods()}


@pytest.mark.slow
@pytest.mark.parametrize("sample", [s for s in SAMPLES if example(s)], ids=lambda sample: sample.name)
def test_the_embedded_model_makes_the_edit(sample: Sample) -> None:
    drawn, editor = example(sample), editkit.load("tiny")
    assert drawn is not None
    assert drawn.source is not None
    category = drawn.kind if isinstance(drawn, MaskedExample) else drawn.category
    for method in sample.methods or [each.name for each in editkit.methods()]:
        mask = Image.open(sample.paint).getchannel("A") if sample.paint else None
        references = [sample.reference] if sample.reference else []
        edited = editor.edit(
            sample.picture, sample.instruction, method, mask=mask, references=references
        ).image
        before, truth, made = (
            np.asarray(each, dtype=np.float32) / np.float32(255)
            for each in (shapesworld.render(drawn.source), shapesworld.render(drawn.answer), edited)
        )
        assert scores.score(before, truth, made, category).success, method
