"""Parity: weight files in every format give the network that they were made from."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from backbones.conversion import state_dict
from backbones.conversion.weights import open_weights
from backbones.load_options import LoadOptions
from backbones.loading import load_transformer
from backbones.quantized import dequantize
from tests.backbones.files.networks import AXES, GGUF, WIDE, apart, held, loaded, predict
from tests.weight_files import (
    SPELLINGS,
    STAY_SMALL,
    State,
    four_bits,
    write,
    write_gguf,
)


@pytest.mark.parametrize("kind", SPELLINGS)
def test_a_safetensors_file_gives_its_network(
    kind: str, native: State, plain: FluxTransformer2DModel, tmp_path: Path
) -> None:
    make, error = SPELLINGS[kind]
    made = loaded(write(make(native), tmp_path / "flux.safetensors"))
    assert 0 < apart(predict(made), predict(plain)) < error
    if kind in STAY_SMALL:
        assert held(made) < 0.6 * held(plain)


@pytest.mark.parametrize("kind", GGUF)
def test_a_gguf_file_gives_its_network(kind: str, wide_native: State, tmp_path: Path) -> None:
    """Against the package gguf's own reading; diffusers' goes by way of fp16."""
    file, expected = write_gguf(wide_native, kind, tmp_path / "flux.gguf")
    same = FluxTransformer2DModel.from_config(WIDE).eval()
    same.load_state_dict(state_dict.native_to_diffusers(expected))
    made = loaded(file)
    assert apart(predict(made), predict(same)) < 2e-3
    if kind not in ("BF16", "F16"):
        assert held(made) < 0.45 * held(same)
    if kind in ("Q8_0", "Q5_1", "Q4_1", "BF16", "F16"):
        whole = FluxTransformer2DModel.from_config(WIDE).eval()
        whole.load_state_dict(state_dict.native_to_diffusers(wide_native))
        assert apart(predict(made), predict(whole)) < {"Q8_0": 0.01, "Q5_1": 0.05, "Q4_1": 0.1}.get(
            kind, 0.01
        )


def test_diffusers_naming_in_one_file(plain: FluxTransformer2DModel, tmp_path: Path) -> None:
    save_file(plain.state_dict(), tmp_path / "flux.safetensors")
    assert torch.equal(predict(loaded(tmp_path / "flux.safetensors")), predict(plain))


def test_integers_of_another_model_in_the_file(
    native: State, plain: FluxTransformer2DModel, tmp_path: Path
) -> None:
    """Files of all models may hold CLIP's position ids."""
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in native.items()}
    ids = "text_encoders.clip_l.transformer.text_model.embeddings.position_ids"
    file = write((state | {ids: torch.arange(77)[None]}, {}), tmp_path / "all.safetensors")
    assert apart(predict(loaded(file)), predict(plain)) < 1e-5


def test_a_folder_in_four_bits(plain: FluxTransformer2DModel, tmp_path: Path) -> None:
    """As diffusers saves it, and loads it on a GPU alone."""
    state, _ = four_bits({name: tensor.detach() for name, tensor in plain.state_dict().items()})
    save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "diffusion_pytorch_model.safetensors")
    plain.save_config(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = loaded(tmp_path)
    assert type(made.transformer_blocks[0].attn.to_q).__name__ == "Linear4bit"
    assert 0 < apart(predict(made), predict(plain)) < 0.3


def test_reshaped_tensors_of_gguf_get_their_shape_back(wide_native: State, tmp_path: Path) -> None:
    """ComfyUI-GGUF flattens what does not divide into blocks, and notes the shape."""
    writer = gguf.GGUFWriter(tmp_path / "flux.gguf", "flux")
    name = "img_in.weight"
    data = gguf.quants.quantize(wide_native[name].numpy().reshape(-1, 256), gguf.GGMLQuantizationType.Q8_0)
    for other, tensor in wide_native.items():
        if other != name:
            writer.add_tensor(other, tensor.numpy())
    writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_array(f"comfy.gguf.orig_shape.{name}", list(wide_native[name].shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    weight = loaded(tmp_path / "flux.gguf").x_embedder.weight
    assert apart(weight, wide_native[name]) < 0.01


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("torchao", {"type": "TorchAoConfig", "quant_type": "Int8WeightOnlyConfig"}),
        pytest.param(
            "bitsandbytes", {"type": "BitsAndBytesConfig", "load_in_4bit": True}, marks=pytest.mark.gpu
        ),
    ],
)
def test_a_native_file_is_quantized_on_load(
    package: str, options: dict[str, Any], native: State, plain: FluxTransformer2DModel, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    file = write((native, {}), tmp_path / "flux.safetensors")
    device = torch.device("cuda" if package == "bitsandbytes" else "cpu")
    chosen = LoadOptions(transformer=file, axes=AXES, quantization=options)
    made = load_transformer(chosen, "kontext", Path, torch.float32, device)
    assert type(made.transformer_blocks[0].attn.to_q.weight) is not torch.nn.Parameter
    assert 0 < apart(predict(made), predict(plain)) < 0.4


def test_dequantized_is_the_reader_of_all(native: State, tmp_path: Path) -> None:
    """A file's packed values, one by one, are those of the matrix within a step of the format."""
    for kind, step in (
        ("fp8 scaled, hints", 0.04),
        ("NVFP4, ComfyUI", 0.12),
        ("NVFP4, BFL", 0.12),
        ("NF4", 0.11),
    ):
        with ExitStack() as stack:
            found = open_weights(write(SPELLINGS[kind][0](native), tmp_path / "flux.safetensors"), stack)
            assert set(found) == set(native)
            for name, tensor in native.items():
                assert apart(dequantize(found[name]).float(), tensor) < step, (kind, name)
