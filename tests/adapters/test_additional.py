"""Adapters in addition to a method's own: absolute scales, recorded, honoured by replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import editkit
from backbones.flux import Flux, load_flux
from editkit import EditkitError, adapters, atomic_files
from editkit.imaging import images
from tests.adapters.conftest import Made
from tests.command_line import one_sentence
from tests.pictures import image


def pixels(editor: editkit.Editor, **asked: Any) -> np.ndarray[Any, Any]:
    result = editor.edit(image(48, 40), "make it blue", steps=2, **asked)
    assert result.image is not None
    return np.asarray(result.image)


def test_scales_are_absolute(random_pipeline: Path, made: Made) -> None:
    """What a scale gives is the same whatever the scale was before."""
    style = made("style.safetensors", 1)
    editor, other = (editkit.load(str(random_pipeline), "cpu") for _ in range(2))
    name = editor.load_adapter(style)
    found = {}
    for scale in (0.5, 1.0, 0.5, -2.0, 1.0):
        editor.use_adapters([name], [scale])
        now = pixels(editor)
        assert np.array_equal(found.setdefault(scale, now), now)
    other.load_adapter(style)
    assert np.array_equal(pixels(other), found[1.0])
    assert not np.array_equal(found[0.5], found[1.0])
    editor.use_adapters([])
    assert np.array_equal(pixels(editor), pixels(editkit.load(str(random_pipeline), "cpu")))


def test_several_with_their_scales(random_pipeline: Path, made: Made) -> None:
    """Scales do what other alphas in the files would do."""
    one, two = made("one.safetensors", 1), made("two v1.0.safetensors", 2)
    scaled = {str(made("half.safetensors", 1, 1.0)): 1.0, str(made("twice.safetensors", 2, 4.0)): 1.0}
    editor = editkit.load(str(random_pipeline), "cpu", lora={str(one): 0.5, str(two): 2})
    found = pixels(editor)
    assert np.array_equal(found, pixels(editkit.load(str(random_pipeline), "cpu", lora=scaled)))
    assert not np.array_equal(found, pixels(editkit.load(str(random_pipeline), "cpu")))
    assert np.array_equal(found, pixels(editor.configured({"kontext": {}})))
    digest = {path: atomic_files.sha256(path) for path in (one, two)}
    recipe = editor.edit(image(48, 40), "make it blue", steps=1).recipe
    assert recipe["lora"] == {str(one): 0.5, str(two): 2}
    weights = recipe["weights"]
    assert weights[f"adapter one-{digest[one][:8]} x0.5"] == digest[one]
    assert weights[f"adapter two v1_0-{digest[two][:8]} x2"] == digest[two]


def test_on_a_family_that_edits_nothing(random_text_pipeline: Path, made: Made) -> None:
    """It has the role of text to image alone, which methods then run on."""

    def drawn(editor: editkit.Editor) -> np.ndarray[Any, Any]:
        editor.load(editkit.EditRequest(image=None, instruction="a circle"))
        return np.asarray(editor.edit(None, "a circle", size=(64, 64), steps=2).image)

    style = made("style.safetensors", 1)
    folder = str(random_text_pipeline)
    editor, additional = editkit.load(folder, "cpu"), editkit.load(folder, "cpu", lora={str(style): 1.0})
    base = drawn(editor)
    name = editor.load_adapter(style)
    assert np.array_equal(drawn(editor), drawn(additional))
    assert not np.array_equal(drawn(editor), base)
    editor.use_adapters([])
    assert np.array_equal(drawn(editor), base)
    editor.use_adapters([name])
    with pytest.raises(EditkitError, match="'kontext'"):  # pictures need a role of the method's own
        editor.load(editkit.EditRequest(image=image(48, 40), instruction="make it blue"))


def test_on_top_of_a_methods_own(bare_flux: Flux, made: Made) -> None:
    own, style = made("own.safetensors", 3), made("style.safetensors", 4)
    editor = editkit.Editor(bare_flux, {"icedit": {"adapter": str(own)}}, {str(style): 0.25})
    editor.edit(image(48, 40), "make it blue", "icedit", steps=1)
    assert sorted(adapters.active(bare_flux.transformer("fill")).values()) == [0.25, 1.0]
    name = editor.load_adapter(own, "icedit", "only this one")
    recipe = editor.edit(image(48, 40), "make it blue", "icedit", steps=1).recipe
    assert adapters.active(bare_flux.transformer("fill")) == {name: 1.0}
    assert "lora" not in recipe


def test_private_recipes_hide_where_adapters_are(random_pipeline: Path, made: Made) -> None:
    one, two = made("one.safetensors", 1), made("two.safetensors", 2)
    editor = editkit.load(str(random_pipeline), "cpu", lora={str(one): 0.5}).configured({}, private=True)
    recipe = editor.configured({}, {str(two): 2}).edit(image(48, 40), "make it blue", steps=1).recipe
    names = {f"{path.stem}-{atomic_files.sha256(path)[:8]}": scale for path, scale in ((one, 0.5), (two, 2))}
    assert recipe["lora"] == names
    assert str(one.parent) not in str(recipe)


def test_methods_of_one_role_share_what_is_loaded(bare_flux: Flux, made: Made) -> None:
    """By an option, and when it is loaded by hand; another file of the same name is another adapter."""
    own = made("shared.safetensors", 11)
    options = {"icedit": {"adapter": str(own)}, "aceplus": {"adapter": str(own)}}
    editor, there = editkit.Editor(bare_flux, options), loaded(bare_flux)
    name = f"shared-{atomic_files.sha256(own)[:8]}"
    for method in options:
        editor.edit(image(48, 40), "make it blue", method, steps=1)
        assert adapters.active(bare_flux.transformer("fill")) == {name: 1.0}
    assert loaded(bare_flux) - there == {name}
    assert {editor.load_adapter(own, method) for method in options} == {"shared"}
    assert loaded(bare_flux) - there == {name, "shared"}
    other = editor.load_adapter(made("shared.safetensors", 12), "icedit")
    assert other == f"shared-{atomic_files.sha256(own)[:8]}"


def test_a_name_that_torch_does_not_allow_ends_in_the_hash(bare_flux: Flux, made: Made) -> None:
    """Such as that of a folder of exports; its layers have a method of this name."""
    style = made("train.safetensors", 13)
    name = editkit.Editor(bare_flux).load_adapter(style)
    assert name == f"train-{atomic_files.sha256(style)[:8]}"


def loaded(flux: Flux) -> set[str]:
    return {name for layer in adapters.layers(flux.transformer("fill")) for name in layer.r}


def test_files_of_one_name_in_two_roles_keep_their_hashes(tmp_path: Path) -> None:
    flux, key = load_flux("tiny", "cpu"), "transformer.transformer_blocks.0.attn.to_q.lora_"
    for seed, role in enumerate(("kontext", "fill")):
        (tmp_path / role).mkdir()
        down, up = torch.full((2, 256), float(seed)), torch.ones(256, 2)
        save_file({f"{key}A.weight": down, f"{key}B.weight": up}, tmp_path / role / "style.safetensors")
        flux.load_adapter(role, tmp_path / role / "style.safetensors", "style")
    for role in ("kontext", "fill"):
        digest = atomic_files.sha256(tmp_path / role / "style.safetensors")
        assert flux.fingerprints(role)["adapter style x1"] == digest


def test_private_recipes_hide_where_a_methods_own_adapter_is(bare_flux: Flux, made: Made) -> None:
    own = made("own v1.safetensors", 3)
    editor = editkit.Editor(bare_flux, {"icedit": {"adapter": str(own)}})
    for private in (False, True):
        recipe = editor.configured(None, private=private).edit(
            image(48, 40), "make it blue", "icedit", steps=1
        ).recipe  # fmt: skip
        called = f"own v1-{atomic_files.sha256(own)[:8]}" if private else str(own)
        assert recipe["options"]["adapter"] == called
        assert (str(own.parent) in str(recipe)) is not private


def test_replay_uses_them_too(random_pipeline: Path, made: Made, tmp_path: Path) -> None:
    style, output = made("style.safetensors", 1), tmp_path / "edited.png"
    image(48, 40).save(tmp_path / "source.png")
    editor = editkit.load(str(random_pipeline), "cpu", lora={str(style): 0.5})
    result = editor.edit(tmp_path / "source.png", "make it blue", steps=2)
    images.save(result.image, output, result.recipe)
    assert editkit.replay(output).verdict == "identical"
    style.rename(tmp_path / "moved.safetensors")
    with pytest.raises(
        EditkitError, match=r"style\.safetensors is neither an existing file or folder"
    ) as caught:
        editkit.replay(output)
    one_sentence(str(caught.value))
    again = editkit.replay(output, lora={str(tmp_path / "moved.safetensors"): 0.5})
    assert again.verdict == "identical"
    changed = editkit.replay(output, lora={str(tmp_path / "moved.safetensors"): 1.0})
    assert changed.verdict != "identical"
    assert any("adapter moved-" in reason for reason in changed.reasons)


def test_what_is_refused(random_pipeline: Path, made: Made, tmp_path: Path) -> None:
    style = made("style.safetensors", 1)
    copy = tmp_path / "folder" / "style.safetensors"
    copy.parent.mkdir()
    copy.write_bytes(style.read_bytes())
    cases: list[tuple[dict[str, Any], str]] = [
        ({str(style): "1"}, "is no number"),
        ({str(style): float("inf")}, "is no number"),
        ({str(style): 1, str(copy): 1}, "is given twice"),
        ({str(tmp_path / "gone.safetensors"): 1}, "is neither an existing file or folder nor a Hub id"),
    ]
    for lora, words in cases:
        with pytest.raises(EditkitError, match=words) as caught:
            pixels(editkit.load(str(random_pipeline), "cpu", lora=lora))
        one_sentence(str(caught.value))


@pytest.mark.parametrize("name", ["gone.safetensors", "gone", "a/b/c", "hf://a/b", "hf://a//c"])
def test_a_file_that_is_missing_is_told_before_weights_are_loaded(random_pipeline: Path, name: str) -> None:
    with pytest.raises(EditkitError, match=f"The adapter {name} is n"):
        editkit.load(str(random_pipeline), "cpu", lora={name: 1})
    with pytest.raises(EditkitError, match=f"The adapter {name} is n"):
        editkit.load(str(random_pipeline), "cpu").configured({}, {name: 1})
