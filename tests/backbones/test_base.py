"""A local folder's base model is recognised by its transformer's shapes, so that its adapters are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import editkit
from backbones import families
from backbones.specs import FAMILIES, PUBLISHED_SHAPE, TINY
from editkit import adapters
from editkit.errors import EditkitWarning
from tests.pictures import image


def pipeline_folder(place: Path, pipeline: str = "FluxFillPipeline", **config: object) -> Path:
    (place / "transformer").mkdir()
    (place / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    (place / "transformer" / "config.json").write_text(json.dumps({"in_channels": 384, **config}))
    return place


@pytest.mark.parametrize(
    ("config", "base"),
    [
        ({**PUBLISHED_SHAPE, "guidance_embeds": True}, "flux1-dev"),
        ({**PUBLISHED_SHAPE, "guidance_embeds": False}, "flux1-schnell"),
        ({**PUBLISHED_SHAPE, "guidance_embeds": True, "num_layers": 8}, None),
    ],
)
def test_shapes_tell_the_base(tmp_path: Path, config: dict[str, object], base: str | None) -> None:
    assert families.find_family(str(pipeline_folder(tmp_path, **config))).base == base


@pytest.mark.parametrize(("guided", "name"), [(True, "flux1-dev"), (False, "flux1-schnell")])
def test_a_copy_has_the_defaults_of_its_base(tmp_path: Path, guided: bool, name: str) -> None:
    shape = {**PUBLISHED_SHAPE, "guidance_embeds": guided, "in_channels": 64}
    found = families.find_family(str(pipeline_folder(tmp_path, "FluxPipeline", **shape)))
    made, published = found.roles["text"], FAMILIES[name].roles["text"]
    assert (made.steps, made.guidance) == (published.steps, published.guidance)
    assert found.sequence_length == FAMILIES[name].sequence_length


def test_a_copy_of_the_embedded_backbone_uses_its_adapters() -> None:
    editor = editkit.load(str(TINY / "fill"), device="cpu")
    assert editor.backbone.base == "tiny"
    result = editor.edit(image(128, 128), "make the red circle blue", "icedit", steps=1)
    assert not [note for note in result.notes if "adapter" in note]
    assert adapters.active(editor.backbone.transformer("fill"))


def test_a_method_without_an_adapter_says_so(random_flux) -> None:
    editor = editkit.Editor(random_flux)
    with pytest.warns(EditkitWarning, match="icedit has no adapter for this backbone"):
        editor.edit(image(128, 128), "make the red circle blue", "icedit", steps=1)
