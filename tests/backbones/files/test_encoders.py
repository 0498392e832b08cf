"""Parity: text encoders from single files give the features that they were made from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import T5EncoderModel

from backbones import folders
from tests import weight_files
from tests.backbones.files.encoders import (
    STATES,
    block_matrix,
    component,
    features,
    own,
    write_clip_gguf,
    write_t5_gguf,
)
from tests.backbones.files.networks import apart
from tests.weight_files import SPELLINGS, write

ALL_IN_ONE = {
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.t5xxl.transformer.",
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("prefixed", [False, True])
def test_an_encoder_file_gives_the_same_features(
    name: str, prefixed: bool, home: Path, tmp_path: Path
) -> None:
    state = STATES[name](home)
    if prefixed:
        state = {ALL_IN_ONE[name] + key: tensor for key, tensor in state.items()}
        state |= {
            "model.diffusion_model.img_in.bias": torch.ones(3),
            "vae.decoder.conv_in.bias": torch.ones(3),
        }
        state |= {"text_encoders.clip_l.logit_scale": torch.ones(())}
    save_file(state, tmp_path / "encoder.safetensors")
    made = component(name, tmp_path / "encoder.safetensors", home)
    assert torch.equal(features(made), features(own(name, home)))


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize(
    ("kind", "error"),
    [("fp8 plain", 0.1), ("fp8 scaled, scale_weight", 0.1), ("fp8 scaled, hints", 0.1),
     ("NVFP4, ComfyUI", 0.4), ("NF4", 0.4)],
)  # fmt: skip
def test_quantized_encoder_files(
    name: str, kind: str, error: float, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T5's `wo` above all, whose input transformers casts to its weight's dtype."""
    monkeypatch.setattr(weight_files, "is_packed", block_matrix)
    state = {key: t for key, t in STATES[name](home).items() if t.is_floating_point()}
    file = write(SPELLINGS[kind][0](state), tmp_path / "encoder.safetensors")
    made = component(name, file, home)
    assert 0 < apart(features(made), features(own(name, home))) < error


@pytest.mark.parametrize(("kind", "error"), [("F16", 1e-3), ("Q8_0", 0.02), ("Q5_1", 0.15), ("Q4_0", 0.25)])
def test_t5_from_gguf(kind: str, error: float, home: Path, tmp_path: Path) -> None:
    made = component("text_encoder_2", write_t5_gguf(home, kind, tmp_path / "t5.gguf"), home)
    assert made.config.dense_act_fn == "gelu_new"  # transformers' own reader of GGUF takes relu
    assert 0 < apart(features(made), features(own("text_encoder_2", home))) < error
    if kind != "F16":
        assert made.encoder.block[0].layer[0].SelfAttention.q.weight.dtype == torch.uint8
        assert (
            made.shared.weight.dtype
            == made.encoder.block[0].layer[1].DenseReluDense.wo.weight.dtype
            == torch.float32
        )


@pytest.mark.parametrize(("kind", "error"), [("F16", 1e-3), ("Q8_0", 0.02), ("Q5_1", 0.15), ("Q4_0", 0.3)])
def test_clip_from_gguf(kind: str, error: float, home: Path, tmp_path: Path) -> None:
    made = component("text_encoder", write_clip_gguf(home, kind, tmp_path / "clip.gguf"), home)
    assert 0 < apart(features(made), features(own("text_encoder", home))) < error
    if kind != "F16":
        assert made.encoder.layers[0].self_attn.q_proj.weight.dtype == torch.uint8


def test_encoders_in_half_precision(home: Path, tmp_path: Path) -> None:
    for name, make in STATES.items():
        save_file(make(home), tmp_path / "encoder.safetensors")
        made = component(name, tmp_path / "encoder.safetensors", home, torch.bfloat16)
        assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}
        assert apart(features(made).float(), features(own(name, home))) < 0.05
    file = write_t5_gguf(home, "Q8_0", tmp_path / "t5.gguf")
    assert features(component("text_encoder_2", file, home, torch.bfloat16)).dtype == torch.bfloat16


def test_t5_in_float16_keeps_what_overflows(home: Path, tmp_path: Path) -> None:
    save_file(STATES["text_encoder_2"](home), tmp_path / "t5.safetensors")
    found, expected = (
        {name: weight.dtype for name, weight in model.named_parameters()}
        for model in (
            component("text_encoder_2", tmp_path / "t5.safetensors", home, torch.float16),
            folders.load_pretrained(T5EncoderModel, home, "text_encoder_2", torch.float16),
        )
    )
    assert found == expected
    assert {*found.values()} == {torch.float16, torch.float32}
