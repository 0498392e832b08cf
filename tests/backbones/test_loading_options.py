"""Options of loading, as far as a CPU has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from PIL import Image

import editkit
from backbones.flux import load_flux
from backbones.load_options import LoadOptions
from backbones.loading import load_transformer
from editkit import atomic_files
from editkit.errors import EditkitError
from tests.pictures import difference
from tests.pictures import image as colourful

SOURCE = colourful(40, 24)


@pytest.fixture(scope="module")
def editor(random_pipeline: Path) -> editkit.Editor:
    return editkit.load(str(random_pipeline), "cpu")


def edited(editor: editkit.Editor, source: Image.Image = SOURCE, **values: Any) -> Image.Image:
    result = editor.edit(source, "make it blue", **({"steps": 4} | values)).image
    assert result is not None
    return result


@pytest.fixture(scope="module")
def plain(editor: editkit.Editor) -> Image.Image:
    """The edit that no option may change much."""
    return edited(editor)


def test_a_plain_transformer_is_untouched(editor: editkit.Editor, plain: Image.Image) -> None:
    transformer = editor.backbone.transformer("kontext")
    assert not transformer.is_cache_enabled
    assert not any(parameter.requires_grad for parameter in transformer.parameters())
    assert not any(hasattr(module, "_orig_mod") for module in transformer.modules())
    assert transformer.dtype == torch.float32
    assert plain.size == SOURCE.size


def test_native_attention(random_pipeline: Path, plain: Image.Image) -> None:
    editor = editkit.load(str(random_pipeline), "cpu", attention="native")
    assert difference(edited(editor), plain) <= 1


def test_a_cache_that_never_holds_changes_nothing(random_pipeline: Path, plain: Image.Image) -> None:
    cache = {"type": "FirstBlockCacheConfig", "threshold": 0.0}
    editor = editkit.load(str(random_pipeline), "cpu", cache=cache)
    assert edited(editor).tobytes() == plain.tobytes()
    assert editor.backbone.transformer("kontext").is_cache_enabled


CACHES = [{"type": "FirstBlockCacheConfig", "threshold": 1e6}, {"type": "TaylorSeerCacheConfig"}]


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: cache["type"])
def test_a_cache_is_used_and_forgotten(
    cache: dict[str, Any], random_pipeline: Path, editor: editkit.Editor
) -> None:
    """An edit takes nothing over from the one before, whatever its size."""
    cached = editkit.load(str(random_pipeline), "cpu", cache=cache)
    first = edited(cached, steps=8)
    assert difference(first, edited(editor, steps=8)) > 0
    wide = edited(cached, colourful(64, 32), size=(64, 32), steps=8)
    assert wide.size == (64, 32)
    assert edited(cached, steps=8).tobytes() == first.tobytes()
    assert edited(cached, steps=1).tobytes() == edited(editor, steps=1).tobytes()


def test_a_cache_keeps_two_prompts_apart(random_pipeline: Path, editor: editkit.Editor) -> None:
    """One step computes everything, so that a cache which mixed them up would show."""
    cached = editkit.load(str(random_pipeline), "cpu", cache=CACHES[0])
    wanted = edited(editor, steps=1, negative="a red circle")
    assert difference(wanted, edited(editor, steps=1)) > 0
    assert edited(cached, steps=1, negative="a red circle").tobytes() == wanted.tobytes()


@pytest.mark.parametrize("kind", ["block", "leaf"])
def test_offload_changes_nothing(kind: str, random_pipeline: Path, plain: Image.Image) -> None:
    offloaded = editkit.load(str(random_pipeline), "cpu", offload=kind)
    assert difference(edited(offloaded), plain) <= 1


@pytest.mark.parametrize(("as_path", "ending"), [(True, ".safetensors"), (False, ".sft")])
def test_a_native_file_gives_the_same_edit(
    as_path: bool, ending: str, random_pipeline: Path, plain: Image.Image, tmp_path: Path
) -> None:
    from backbones.conversion.checkpoints import convert

    file = convert(random_pipeline / "transformer", tmp_path / "native.safetensors")
    file = file.rename(file.with_suffix(ending))
    chosen = file if as_path else str(file)
    editor = editkit.load(str(random_pipeline), "cpu", transformer=chosen, axes=(8, 12, 12))
    result = editor.edit(SOURCE, "make it blue", steps=4)
    assert result.image is not None
    assert result.image.tobytes() == plain.tobytes()
    assert result.recipe["weights"]["transformer"] == atomic_files.sha256(file)


def test_a_transformer_folder_is_used(random_pipeline: Path, plain: Image.Image, tmp_path: Path) -> None:
    """Other weights give another edit, and their hash is in the recipe."""
    from diffusers import FluxTransformer2DModel

    transformer = FluxTransformer2DModel.from_pretrained(random_pipeline / "transformer")
    with torch.no_grad():
        transformer.proj_out.bias.add_(0.5)
    transformer.save_pretrained(tmp_path / "other")
    editor = editkit.load(random_pipeline, "cpu", transformer=str(tmp_path / "other"))
    result = editor.edit(SOURCE, "make it blue", steps=4)
    assert result.image is not None
    assert difference(result.image, plain) > 0
    (file,) = (tmp_path / "other").glob("*.safetensors")
    assert result.recipe["weights"]["transformer"] == atomic_files.sha256(file)


@pytest.mark.parametrize("first", ["text", "kontext"])
def test_a_file_for_one_role_stays_out_of_another(first: str, random_pipeline: Path, tmp_path: Path) -> None:
    """A folder of Kontext makes pictures from words too, with its own weights, whichever role comes first."""
    from diffusers import FluxTransformer2DModel

    transformer = FluxTransformer2DModel.from_pretrained(random_pipeline / "transformer")
    own = transformer.proj_out.bias.clone()
    with torch.no_grad():
        transformer.proj_out.bias.add_(0.5)
    transformer.save_pretrained(tmp_path / "other")
    given = {"transformer": {"kontext": str(tmp_path / "other")}}
    flux = load_flux(str(random_pipeline), "cpu", "float32", given)
    flux.transformer(first)
    assert torch.equal(flux.transformer("text").proj_out.bias, own)
    assert torch.equal(flux.transformer("kontext").proj_out.bias, transformer.proj_out.bias)


def test_bits_alone_name_their_quantizer() -> None:
    """As the help of `--load` writes them, for the transformer or by model."""
    four = {"type": "BitsAndBytesConfig", "load_in_4bit": True}
    assert LoadOptions(quantization={"load_in_4bit": True}).quantizer("transformer") == four
    named = LoadOptions(quantization={"text_encoder_2": {"load_in_4bit": True}})
    assert named.quantizer("text_encoder_2") == four
    assert named.quantizer("transformer") == {}
    other = {"type": "QuantoConfig", "weights_dtype": "int8"}
    assert LoadOptions(quantization=other).quantizer("transformer") == other


@pytest.mark.parametrize(
    ("bits", "saved"), [("load_in_4bit", False), ("load_in_8bit", False), ("load_in_8bit", True)]
)
def test_bitsandbytes_puts_a_folder_on_the_device_asked_for(
    random_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: str, saved: bool
) -> None:
    """Weights of 8 bits cannot be moved afterwards; what diffusers is told can be seen without a GPU."""
    folder = tmp_path / "transformer"
    shutil.copytree(random_pipeline / "transformer", folder)
    if saved:
        told = json.loads((folder / "config.json").read_text())
        told["quantization_config"] = {"quant_method": "bitsandbytes", bits: True}
        (folder / "config.json").write_text(json.dumps(told))
    seen: dict[str, Any] = {}

    def from_pretrained(where: Path, **given: Any) -> None:
        seen.update(given)
        raise OSError("no such GPU")

    monkeypatch.setattr(FluxTransformer2DModel, "from_pretrained", from_pretrained)
    options = LoadOptions(transformer=folder, quantization={} if saved else {bits: True})
    with pytest.raises(EditkitError, match="no such GPU"):
        load_transformer(options, "kontext", Path, torch.bfloat16, torch.device("cuda:1"))
    assert seen["device_map"] == {"": torch.device("cuda:1")}
    assert ("quantization_config" in seen) is not saved
