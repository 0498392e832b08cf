"""Backbones that are missing, damaged or of another shape are refused by one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.cases import (
    WEIGHTS,
    Arguments,
    Case,
    Place,
    assert_refused,
    edit,
    halved,
    made,
    retensored,
    rewritten,
    with_nan,
)
from tests.command_line import Cli


def without(*files: str) -> Callable[[Place], Arguments]:
    """A backbone that lacks a file."""

    def make(place: Place) -> Arguments:
        folder = place.damaged()
        for file in files:
            (folder / file).unlink()
        return edit(place, backbone=folder)

    return make


def reconfigured(file: str, **values: Any) -> Callable[[Place], Arguments]:
    """A backbone whose config says something else than its weights."""
    return rewritten(file, lambda content: json.dumps(json.loads(content) | values).encode())


def huge_header(content: bytes) -> bytes:
    return (1 << 60).to_bytes(8, "little") + content[8:]


def in_shards(*held: int) -> Callable[[Place], Arguments]:
    """A backbone whose transformer is in two files, each with so many tensors of its half; 0 for no file."""

    def make(place: Place) -> Arguments:
        folder = place.damaged()
        part = folder / "transformer"
        tensors = load_file(part / WEIGHTS)
        (part / WEIGHTS).unlink()
        names, index = sorted(tensors), dict[str, str]()
        for number, count in enumerate(held):
            shard = f"diffusion_pytorch_model-0000{number + 1}-of-00002.safetensors"
            own = names[number::2]
            index |= dict.fromkeys(own, shard)
            if count:
                save_file({n: tensors[n] for n in own[:count]}, part / shard, metadata={"format": "pt"})
        (part / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
        return edit(place, backbone=folder)

    return make


def rewritten_index(content: bytes) -> Callable[[Place], Arguments]:
    """A backbone whose transformer has an index of shards with this content."""

    def make(place: Place) -> Arguments:
        folder = place.damaged()
        (folder / "transformer" / f"{WEIGHTS}.index.json").write_bytes(content)
        return edit(place, backbone=folder)

    return make


BACKBONES: dict[str, Case] = {
    "unknown backbone": (
        lambda p: edit(p, backbone="tiyn"),
        "no backbone 'tiyn'; there are tiny.*mean 'tiny'",
    ),
    "backbone without name": (lambda p: edit(p, backbone=""), "no backbone ''"),
    "missing folder": (lambda p: edit(p, backbone=p.folder / "none"), "none"),
    "missing folder below": (lambda p: edit(p, backbone="./none"), "./none"),
    "empty folder": (lambda p: edit(p, backbone=made(p.folder / "empty")), "no model_index.json"),
    "file as backbone": (lambda p: edit(p, backbone=p.image), "image.png"),
    "bad hub id": (lambda p: edit(p, backbone="some body/some thing"), "some body/some thing"),
    "schnell has no kontext": (lambda p: edit(p, backbone="flux1-schnell"), "flux1-schnell.*'kontext'.*text"),
    "index is not json": (rewritten("model_index.json", halved), "model_index.json"),
    "index is a list": (rewritten("model_index.json", lambda _: b"[1]"), "nameless pipeline"),
    "index of another pipeline": (reconfigured("model_index.json", _class_name="WanPipeline"), "WanPipeline"),
    "no transformer config": (without("transformer/config.json"), "transformer"),
    "transformer config is not json": (rewritten("transformer/config.json", halved), "transformer"),
    "transformer config is empty": (rewritten("transformer/config.json", lambda _: b"{}"), "transformer"),
    "no transformer": (without(f"transformer/{WEIGHTS}"), "transformer .* cannot be loaded"),
    "truncated transformer": (rewritten(f"transformer/{WEIGHTS}", halved), "transformer .* cannot be loaded"),
    "transformer of zeros": (
        rewritten(f"transformer/{WEIGHTS}", lambda c: bytes(len(c))),
        "transformer .* cannot",
    ),
    "huge transformer header": (
        rewritten(f"transformer/{WEIGHTS}", huge_header),
        "transformer .* cannot be loaded",
    ),
    "empty transformer": (
        rewritten(f"transformer/{WEIGHTS}", lambda _: b""),
        "transformer .* cannot be loaded",
    ),
    "wider transformer config": (
        reconfigured("transformer/config.json", in_channels=128),
        "transformer .* cannot",
    ),
    "longer transformer config": (
        reconfigured("transformer/config.json", num_layers=2),
        "transformer .* cannot",
    ),
    "shorter transformer config": (
        reconfigured("transformer/config.json", num_single_layers=0),
        "transformer .* cannot",
    ),
    "transformer without a tensor": (
        retensored(f"transformer/{WEIGHTS}", lambda tensors: tensors.pop("x_embedder.bias")),
        "transformer .* cannot be loaded",
    ),
    "shard missing": (in_shards(1000, 0), "lacks diffusion_pytorch_model-00002-of-00002.saf"),
    "shard without a tensor": (in_shards(1000, 3), "its shards lack .* tensors that their index names"),
    "index without shards": (rewritten_index(b"[]"), "index.json does not say which files hold the tensors"),
    "axes of other heads": (
        reconfigured("transformer/config.json", axes_dims_rope=[2, 2, 2]),
        "its axes_dims",
    ),
    "no axes": (reconfigured("transformer/config.json", axes_dims_rope=None), "axes_dims_rope None"),
    "no vae": (without(f"vae/{WEIGHTS}"), "vae .* cannot be loaded"),
    "truncated vae": (rewritten(f"vae/{WEIGHTS}", halved), "vae .* cannot be loaded"),
    "wider vae config": (reconfigured("vae/config.json", latent_channels=8), "vae .* cannot be loaded"),
    "vae without a tensor": (
        retensored(f"vae/{WEIGHTS}", lambda tensors: tensors.pop("decoder.conv_out.bias")),
        "vae .* cannot be loaded",
    ),
    "truncated text encoder": (rewritten("text_encoder/model.safetensors", halved), "text_encoder .* cannot"),
    "truncated second text encoder": (
        rewritten("text_encoder_2/model.safetensors", halved),
        "text_encoder_2 .* cannot",
    ),
    "wider text encoder config": (
        reconfigured("text_encoder/config.json", hidden_size=64),
        "text_encoder .* cannot",
    ),
    "longer text encoder config": (
        reconfigured("text_encoder_2/config.json", num_layers=2),
        "text_encoder_2 .* cannot",
    ),
    "no tokenizer": (without("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"), "tokenizer"),
    "truncated tokenizer": (rewritten("tokenizer_2/tokenizer.json", halved), "tokenizer_2"),
    "nan in the transformer": (retensored(f"transformer/{WEIGHTS}", with_nan("proj_out.bias")), "not finite"),
    "nan in the decoder": (retensored(f"vae/{WEIGHTS}", with_nan("decoder.conv_out.bias")), "not finite"),
    "nan in the encoder": (retensored(f"vae/{WEIGHTS}", with_nan("encoder.conv_in.bias")), "not finite"),
    "nan in the text encoder": (
        retensored("text_encoder_2/model.safetensors", with_nan("encoder.final_layer_norm.weight")),
        "not finite",
    ),
}


@pytest.mark.parametrize("case", BACKBONES)
def test_refused(case: str, cli: Cli, place: Place) -> None:
    assert_refused(BACKBONES[case], cli, place)
