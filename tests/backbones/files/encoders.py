"""Load text encoders and autoencoders from files of their own, and write such files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from backbones import component_files
from backbones.load_options import LoadOptions
from tests.random_weights import AUTOENCODER
from tests.weight_files import State

IDS = torch.tensor([[5, 3, 11, 2, 7, 1]])


def saved_home(folder: Path) -> Path:
    """A family's folder with encoders as FLUX has them, 64 wide."""
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=32, d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=2,
                  feed_forward_proj="gated-gelu", dropout_rate=0.0)  # fmt: skip
    clip = CLIPTextConfig(vocab_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                          num_attention_heads=2, max_position_embeddings=16, eos_token_id=31)  # fmt: skip
    T5EncoderModel(t5).save_pretrained(folder / "text_encoder_2")
    CLIPTextModel(clip).save_pretrained(folder / "text_encoder")
    AutoencoderKL.from_config(AUTOENCODER).save_pretrained(folder / "vae")
    return folder


def component(name: str, file: Path, home: Path, dtype: torch.dtype = torch.float32) -> Any:
    return component_files.load_component(LoadOptions(**{name: file}), name, lambda: home, dtype)


def own(name: str, home: Path) -> Any:
    return component_files.load_component(LoadOptions(), name, lambda: home, torch.float32)


def features(model: Any) -> Tensor:
    with torch.no_grad():
        return model(IDS)[0]


def t5_state(home: Path) -> State:
    """As ComfyUI's t5xxl files have it: both names of the embedding."""
    state = load_file(home / "text_encoder_2" / "model.safetensors")
    state["shared.weight"] = state.get("shared.weight", state.get("encoder.embed_tokens.weight"))
    return state | {"encoder.embed_tokens.weight": state["shared.weight"].clone()}


def clip_state(home: Path) -> State:
    """As clip_l.safetensors has it: another prefix, position ids, a projection."""
    state = load_file(home / "text_encoder" / "model.safetensors")
    named = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in state.items()}
    ids = torch.arange(16)[None]
    return named | {"text_model.embeddings.position_ids": ids, "text_projection.weight": torch.eye(64)}


def block_matrix(name: str, tensor: Tensor) -> bool:
    """Whether published encoders have it quantized."""
    inside = re.search(r"layers\.|DenseReluDense|SelfAttention\.[qkvo]\.", name)
    return tensor.ndim == 2 and name.endswith(".weight") and bool(inside)


STATES: dict[str, Callable[[Path], State]] = {"text_encoder": clip_state, "text_encoder_2": t5_state}


def write_t5_gguf(home: Path, kind: str, file: Path, more: State | None = None) -> Path:
    """T5's encoder under llama.cpp's names, the embedding quantized too."""
    chosen = gguf.GGMLQuantizationType[kind]
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 2)
    writer = gguf.GGUFWriter(file, "t5encoder")
    state = {k: t for k, t in t5_state(home).items() if k != "encoder.embed_tokens.weight"}
    for name, tensor in (state | (more or {})).items():
        stem, _, end = name.rpartition(".")
        spoken = f"{table.get_name(stem) or stem}.{end}"
        if tensor.ndim == 2 and "relative" not in name:
            writer.add_tensor(spoken, gguf.quants.quantize(tensor.numpy(), chosen), raw_dtype=chosen)
        else:
            writer.add_tensor(spoken, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def write_clip_gguf(home: Path, kind: str, file: Path) -> Path:
    """CLIP under transformers' names, the embeddings quantized too."""
    chosen = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(file, "clip")
    for name, tensor in clip_state(home).items():
        if tensor.ndim == 2 and tensor.is_floating_point():
            writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), chosen), raw_dtype=chosen)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def spoken(name: str) -> str:
    """BFL's name of a tensor of diffusers' autoencoder without attention."""
    up = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{3 - int(m[1])}", name)
    pairs = {
        "down_blocks": "down", "resnets": "block", "downsamplers.0": "downsample", "upsamplers.0": "upsample",
        "conv_shortcut": "nin_shortcut", "mid_block.block.0": "mid.block_1",
        "mid_block.block.1": "mid.block_2", "conv_norm_out": "norm_out",
    }  # fmt: skip
    for old, new in pairs.items():
        up = up.replace(old, new)
    return up
