"""Adapters that are refused by one sentence: by wrong names, pickled, for another method."""

from __future__ import annotations

from pathlib import Path

import pytest

import editkit
from editkit import adapters
from editkit.errors import EditkitError
from tests import ROOT
from tests.cases import Place, trap
from tests.command_line import one_sentence
from tests.pictures import image as colourful

SOURCE = colourful(40, 24)
EXPERTS = ROOT / "methods" / "icedit" / "tiny" / "moe" / "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def editor(random_pipeline: Path) -> editkit.Editor:
    return editkit.load(str(random_pipeline), "cpu")


def test_adapters_by_wrong_names(place: Place) -> None:
    options = adapters.LoraOptions(rank=2)
    trained_on = editkit.load(str(place.backbone), "cpu").backbone.transformer("kontext")
    adapters.attach(trained_on, options)
    file = adapters.save(trained_on, place.folder).rename(place.folder / "style v1.0.safetensors")
    editor = editkit.load(str(place.backbone), "cpu")
    with pytest.raises(EditkitError, match="'style' is not among those loaded") as caught:
        editor.use_adapters(["style"])
    one_sentence(str(caught.value))
    name = editor.load_adapter(file)
    assert name == "style v1_0"
    for names, scales, words in (
        (["style"], None, "'style' is not among those loaded .*style v1_0"),
        ([name], [0.5, 0.5], "1 adapters cannot take 2 scales"),
    ):
        with pytest.raises(EditkitError, match=words) as caught:
            editor.use_adapters(names, scales)
        one_sentence(str(caught.value))
    assert editor.load_adapter(file) == name
    with pytest.raises(EditkitError, match="does not fit") as caught:
        editor.load_adapter(file, name=name)
    one_sentence(str(caught.value))
    assert editor.edit(SOURCE, "make it blue", steps=1).image is not None


@pytest.mark.parametrize("name", ["lora.bin", "lora.pt", "lora.safetensors"])
def test_pickled_adapters_are_refused(name: str, editor: editkit.Editor, place: Place) -> None:
    with pytest.raises(EditkitError, match=name) as caught:
        adapters.load_adapter(editor.backbone.transformer("kontext"), trap(place, name), "one")
    one_sentence(str(caught.value))
    assert not (place.folder / "sprung").exists()


def test_experts_for_another_method(editor: editkit.Editor) -> None:
    with pytest.raises(
        EditkitError, match="belongs to a LoRA-MoE; load it for a method with experts"
    ) as caught:
        editor.load_adapter(EXPERTS, "kontext")
    one_sentence(str(caught.value))
