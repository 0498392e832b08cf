"""Parity and law: text encoders that are quantized on load, by transformers' own quantizers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import editkit
from backbones.component_files import load_component
from backbones.flux import Flux
from backbones.folders import load_pretrained
from backbones.load_options import LoadOptions
from editkit import config
from editkit.errors import EditkitError
from editkit.train.settings import EditTrainConfig
from tests import weight_files
from tests.backbones.files.encoders import STATES, block_matrix, features, own, write_t5_gguf
from tests.backbones.files.networks import apart
from tests.backbones.files.quantization import CPU, EIGHT, FOUR, QUANTO, TORCHAO, loaded
from tests.pictures import difference
from tests.pictures import image as colourful
from tests.weight_files import SPELLINGS, write

KINDS: dict[str, tuple[str, dict[str, Any], float]] = {
    "8 bits": ("bitsandbytes", EIGHT, 0.03),
    "4 bits": ("bitsandbytes", FOUR, 0.3),
    "torchao": ("torchao", TORCHAO, 0.03),
    "quanto": ("optimum.quanto", QUANTO, 0.03),
}


def whole_file(name: str, home: Path, folder: Path) -> Path:
    save_file(STATES[name](home), folder / "encoder.safetensors")
    return folder / "encoder.safetensors"


SOURCES: dict[str, Callable[[str, Path, Path], Path | None]] = {
    "the family's folder": lambda name, home, _: None,
    "a folder": lambda name, home, _: home / name,
    "a single file": whole_file,
}


def bytes_of(model: torch.nn.Module) -> int:
    from backbones.weight_tracker import tensors, weight_bytes

    return weight_bytes(tensors(model))


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_plain_encoder(
    kind: str, source: str, name: str, home: Path, tmp_path: Path
) -> None:
    package, options, error = KINDS[kind]
    pytest.importorskip(package)
    plain, made = own(name, home), loaded(name, home, options, SOURCES[source](name, home, tmp_path))
    assert 0 < apart(features(made), features(plain)) < error
    assert bytes_of(made) < 0.75 * bytes_of(plain)
    assert not any(parameter.requires_grad for parameter in made.parameters())


def test_the_last_layer_of_t5s_blocks_stays_plain_in_the_runs_dtype(home: Path) -> None:
    """In float32, which transformers once kept it in, a third of T5 would be twice as large as before."""
    options = LoadOptions(quantization={"text_encoder_2": EIGHT})
    made = load_component(options, "text_encoder_2", lambda: home, torch.bfloat16, CPU)
    layer = made.encoder.block[0].layer
    assert layer[1].DenseReluDense.wo.weight.dtype == torch.bfloat16
    assert layer[0].SelfAttention.q.weight.dtype == torch.int8


@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2"])
def test_one_part_alone_is_quantized(name: str, home: Path) -> None:
    (other,) = {"text_encoder", "text_encoder_2"} - {name}
    made = load_component(LoadOptions(quantization={name: EIGHT}), other, lambda: home, torch.float32, CPU)
    assert torch.equal(features(made), features(own(other, home)))


# --- Whole edits ---

SOURCE = colourful(40, 24)


def edited(pipeline: Path, **loading: Any) -> tuple[Image.Image, editkit.Editor]:
    editor = editkit.load(pipeline, "cpu", **loading)
    result = editor.edit(SOURCE, "make it blue", steps=2)
    assert result.image is not None
    assert result.recipe.get("loading", {}) == loading
    return result.image, editor


@pytest.mark.parametrize("preset", [None, "16g"])
def test_an_edit_with_quantized_encoders(preset: str | None, random_pipeline: Path) -> None:
    """Under a preset too, which sends them to wait; the recipe tells how the picture was made."""
    plain, _ = edited(random_pipeline)
    loading: dict[str, Any] = {"quantization": {"text_encoder": EIGHT, "text_encoder_2": EIGHT}}
    made, editor = edited(random_pipeline, **loading | ({"low_memory": preset} if preset else {}))
    assert 0 < difference(made, plain) < 64
    assert editor.backbone.encoders.t5.is_loaded_in_8bit
    transformer = editor.backbone.transformer("kontext")
    assert {parameter.dtype for parameter in transformer.parameters()} == {torch.float32}


def test_kept_prompts_of_other_encoders_are_not_taken(random_pipeline: Path) -> None:
    def digest(**loading: Any) -> str:
        editor = editkit.load(random_pipeline, "cpu", **loading)
        assert isinstance(editor.backbone, Flux)
        return editor.backbone.encoders_hash()

    eight, four = ({"quantization": {"text_encoder_2": kind}} for kind in (EIGHT, FOUR))
    assert len({digest(), digest(**eight), digest(**four)}) == 3
    assert digest(quantization=EIGHT) == digest()  # of the transformer


# --- Refusals ---


@pytest.mark.parametrize("kind", ["fp8 scaled, hints", "NF4"])
def test_a_quantized_file_is_not_quantized_again(
    kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "is_packed", block_matrix)
    state = {key: t for key, t in STATES["text_encoder_2"](home).items() if t.is_floating_point()}
    file = write(SPELLINGS[kind][0](state), tmp_path / "encoder.safetensors")
    with pytest.raises(EditkitError, match="quantized already; leave the option quantization out"):
        loaded("text_encoder_2", home, EIGHT, file)


def test_neither_is_a_gguf_file_nor_a_quantized_folder(home: Path, tmp_path: Path) -> None:
    words = "quantized already; leave the option quantization out"
    with pytest.raises(EditkitError, match=words):
        loaded("text_encoder_2", home, FOUR, write_t5_gguf(home, "Q8_0", tmp_path / "t5.gguf"))
    loaded("text_encoder_2", home, FOUR).save_pretrained(tmp_path / "four")
    with pytest.raises(EditkitError, match=words):
        loaded("text_encoder_2", home, FOUR, tmp_path / "four")


def test_a_folder_of_four_bits_gives_the_same_features(home: Path, tmp_path: Path) -> None:
    made = loaded("text_encoder_2", home, FOUR)
    made.save_pretrained(tmp_path / "four")
    again = load_pretrained(type(made), tmp_path / "four", "", torch.float32)
    assert apart(features(again), features(made)) < 1e-5


def test_files_that_do_not_fit_are_refused(home: Path, tmp_path: Path) -> None:
    file = whole_file("text_encoder", home, tmp_path)
    state = load_file(file)
    state.pop("text_model.final_layer_norm.weight")
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(EditkitError, match=r"lacks 1 tensors, such as final_layer_norm\.weight"):
        loaded("text_encoder", home, EIGHT, tmp_path / "short.safetensors")
    with pytest.raises(EditkitError, match=r"lacks .* encoder\.block"):
        loaded("text_encoder_2", home, EIGHT, file)


@pytest.mark.parametrize(
    ("quantization", "words"),
    [
        ({"text_encoder_2": EIGHT, "vae": EIGHT}, "quantization may name transformer, .*, not 'vae'"),
        ({"text_encoder_2": EIGHT, "load_in_4bit": True}, "quantization may name .* not 'load_in_4bit'"),
        ({"text_encoder_2": "int8"}, r"quantization\.text_encoder_2 must hold type and arguments"),
    ],
)
def test_options_of_another_form_are_refused(quantization: dict[str, Any], words: str) -> None:
    with pytest.raises(EditkitError, match=words):
        config.build(LoadOptions, {"quantization": quantization})


def test_what_transformers_lacks_is_refused(home: Path) -> None:
    with pytest.raises(EditkitError, match=r"NVIDIAModelOptConfig.*BitsAndBytesConfig, TorchAoConfig"):
        loaded("text_encoder_2", home, {"type": "NVIDIAModelOptConfig"})
    with pytest.raises(EditkitError, match="transformers' BitsAndBytesConfig refuses its arguments"):
        loaded("text_encoder_2", home, EIGHT | {"load_in_3bit": True})


def test_a_missing_package_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(EditkitError, match="torchao"):
        loaded("text_encoder_2", home, TORCHAO)


@pytest.mark.parametrize("trainable", ["full", "input"])
def test_what_is_saved_whole_is_not_quantized(trainable: str) -> None:
    told = {"trainable": trainable, "load": {"quantization": {"text_encoder_2": EIGHT}}}
    with pytest.raises(EditkitError, match=f"trainable={trainable} saves the text encoders too"):
        config.build(EditTrainConfig, told)
