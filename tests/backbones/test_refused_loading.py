"""Loading options and files that are refused; nothing is ever unpickled."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import T5Config, T5EncoderModel

import editkit
from editkit.errors import EditkitError
from tests.cases import WEIGHTS, Place, native, trap
from tests.command_line import copied, one_sentence
from tests.pictures import image as colourful
from tests.random_weights import AUTOENCODER, T5, transformer_config

SOURCE = colourful(40, 24)

LOADING: dict[str, tuple[Callable[[Place], dict[str, Any]], str]] = {
    "missing path": (lambda p: {"backbone": p.folder / "none"}, "no backbone"),
    "unknown option": (lambda p: {"ofload": "block"}, "'ofload'.*did you mean 'offload'"),
    "unknown offload": (lambda p: {"offload": "disk"}, "offload must be none, block or leaf"),
    "unknown preset": (lambda p: {"low_memory": "8g"}, "low_memory must be 16g, 24g, 48g or auto"),
    "transformers in a list": (lambda p: {"transformer": [1]}, "a path, or paths by role"),
    "options of an unknown method": (lambda p: {"options": {"kontekst": {}}}, "did you mean 'kontext'"),
    "unknown option of a method": (
        lambda p: {"options": {"kontext": {"layuot": 1}}},
        "did you mean 'layout'",
    ),
    "dtype of another kind": (lambda p: {"dtype": torch.int8}, "dtype torch.int8"),
}


@pytest.mark.parametrize("case", LOADING)
def test_bad_loading(case: str, place: Place) -> None:
    make, words = LOADING[case]
    with pytest.raises(EditkitError, match=words) as caught:
        editkit.load(**({"backbone": str(place.backbone), "device": "cpu"} | make(place)))
    one_sentence(str(caught.value))


def trapped_folder(place: Place, weights: str = WEIGHTS) -> Path:
    """A transformer folder with a pickle under the weights' name."""
    folder = copied(place.backbone / "transformer", place.folder / "transformer")
    (folder / WEIGHTS).unlink()
    trap(place, f"transformer/{weights}")
    return folder


BLOCKS = {
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}


def saved(place: Place, cls: Any, config: dict[str, Any]) -> Path:
    """A folder of a model with random weights."""
    cls.from_config(config).save_pretrained(place.folder / "model")
    return place.folder / "model"


def autoencoder(place: Place, **changes: Any) -> Path:
    return saved(place, AutoencoderKL, AUTOENCODER | changes)


def network(place: Place, **changes: Any) -> Path:
    return saved(place, FluxTransformer2DModel, transformer_config() | changes)


def wider_t5(place: Place) -> Path:
    """A T5 of another width than the transformer's text."""
    T5EncoderModel(T5Config(**T5 | {"vocab_size": 4096, "d_model": 24})).save_pretrained(place.folder / "t5")
    return place.folder / "t5"


TRANSFORMERS: dict[str, tuple[Callable[[Place], dict[str, Any]], str]] = {
    **{
        f"pickle {suffix}": (
            lambda p, suffix=suffix: {"transformer": trap(p, f"a{suffix}")},
            "pickles are never",
        )
        for suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl", "")
    },
    "pickle for one role": (lambda p: {"transformer": {"kontext": trap(p, "a.pt")}}, "pickles are never"),
    "pickle by another name": (lambda p: {"transformer": trap(p, "a.safetensors")}, "a.safetensors"),
    "pickle in a folder": (
        lambda p: {"transformer": trapped_folder(p, "diffusion_pytorch_model.bin")},
        "transformer .* cannot be loaded",
    ),
    "pickle in a folder by another name": (
        lambda p: {"transformer": trapped_folder(p)},
        "transformer .* cannot be loaded",
    ),
    "missing file": (lambda p: {"transformer": "none.safetensors"}, "none.safetensors cannot be loaded"),
    "missing folder": (lambda p: {"transformer": "some/where"}, "some/where cannot be loaded"),
    "whole pipeline": (lambda p: {"transformer": p.backbone}, "cannot be loaded"),
    "an autoencoder": (lambda p: {"transformer": p.backbone / "vae"}, "cannot be loaded"),
    "native file without axes": (lambda p: {"transformer": native(p)}, "axes"),
    "native file with wrong axes": (lambda p: {"transformer": native(p), "axes": (8, 8, 8)}, "axes"),
    "file quantized with a wrong argument": (
        lambda p: {"transformer": native(p), "quantization": {"type": "QuantoConfig", "weights": 4}},
        "QuantoConfig refuses its arguments",
    ),
    "autoencoder of SDXL": (lambda p: {"vae": autoencoder(p, latent_channels=4)}, "has 4 channels for each"),
    "autoencoder of larger cells": (
        lambda p: {"vae": autoencoder(p, block_out_channels=[8, 16], **BLOCKS)},
        "has 16 channels for each 2x2",
    ),
    "another T5": (lambda p: {"text_encoder_2": wider_t5(p)}, "T5 and CLIP give features of"),
    "transformer of fewer outputs": (
        lambda p: {"transformer": network(p, out_channels=32)},
        "it predicts 32 channels, and those of FLUX.1 64",
    ),
    "unknown attention": (lambda p: {"attention": "none"}, "options do not fit"),
    "attention that is not here": (lambda p: {"attention": "flash"}, "options do not fit"),
    "unknown cache": (lambda p: {"cache": {"type": "LastBlockCacheConfig"}}, "FirstBlockCacheConfig"),
    "cache without type": (lambda p: {"cache": {"threshold": 1.0}}, "FirstBlockCacheConfig"),
    "cache of wrong arguments": (
        lambda p: {"cache": {"type": "FirstBlockCacheConfig", "thershold": 1.0}},
        "refuses its arguments",
    ),
    "quantizer without a type": (
        lambda p: {"quantization": {"load_in_4bits": True}},
        "load_in_4bits needs a type beside it, one of BitsAndBytesConfig",
    ),
    "class that is no cache": (lambda p: {"cache": {"type": "FluxPipeline"}}, "type='FluxPipeline'"),
    "unknown quantization": (lambda p: {"quantization": {"type": "HalfBitConfig"}}, "BitsAndBytesConfig"),
}


@pytest.mark.parametrize("case", TRANSFORMERS)
def test_bad_transformers(case: str, place: Place) -> None:
    make, words = TRANSFORMERS[case]
    options = make(place)
    editor = editkit.load(str(place.backbone), "cpu", **options)
    with pytest.raises(EditkitError, match=words) as caught:
        editor.edit(SOURCE, "make it blue", steps=1)
    one_sentence(str(caught.value))
    assert not (place.folder / "sprung").exists()


def quantized(place: Place, **quantization: Any) -> str:
    """What an edit says that is asked of a quantized backbone."""
    editor = editkit.load(str(place.backbone), "cpu", quantization=quantization)
    with pytest.raises(EditkitError) as caught:
        editor.edit(SOURCE, "make it blue", steps=1)
    one_sentence(str(caught.value))
    return str(caught.value)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="has an accelerator")
def test_bits_and_bytes_need_a_gpu(place: Place) -> None:
    assert "No GPU" in quantized(place, type="BitsAndBytesConfig", load_in_8bit=True)


def test_a_quantizer_without_its_package_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    assert "torchao" in quantized(place, type="TorchAoConfig", quant_type="Int8WeightOnlyConfig")


def test_the_trap_works(place: Place) -> None:
    pickle.loads(trap(place, "a.pt").read_bytes())
    assert (place.folder / "sprung").exists()
