"""Parity and law: text encoders and autoencoders from the single files that people hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

import editkit
from backbones import parts
from backbones.conversion.checkpoints import convert
from backbones.loading import LoadOptions
from editkit import atomic_files
from editkit.errors import EditkitError
from tests import weight_files
from tests.pictures import difference, image
from tests.random_weights import AUTOENCODER
from tests.weight_files import SPELLINGS, State, write

IDS = torch.tensor([[5, 3, 11, 2, 7, 1]])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_home(tmp_path_factory.mktemp("home"))


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


def part(name: str, file: Path, home: Path, dtype: torch.dtype = torch.float32) -> Any:
    return parts.load(LoadOptions(**{name: file}), name, lambda: home, dtype)


def own(name: str, home: Path) -> Any:
    return parts.load(LoadOptions(), name, lambda: home, torch.float32)


def features(model: Any) -> Tensor:
    with torch.no_grad():
        return model(IDS)[0]


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


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


STATES: dict[str, Callable[[Path], State]] = {"text_encoder": clip_state, "text_encoder_2": t5_state}
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
    made = part(name, tmp_path / "encoder.safetensors", home)
    assert torch.equal(features(made), features(own(name, home)))


def block_matrix(name: str, tensor: Tensor) -> bool:
    """Whether published encoders have it quantized."""
    inside = re.search(r"layers\.|DenseReluDense|SelfAttention\.[qkvo]\.", name)
    return tensor.ndim == 2 and name.endswith(".weight") and bool(inside)


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
    made = part(name, file, home)
    assert 0 < apart(features(made), features(own(name, home))) < error


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


@pytest.mark.parametrize(("kind", "error"), [("F16", 1e-3), ("Q8_0", 0.02), ("Q5_1", 0.15), ("Q4_0", 0.25)])
def test_t5_from_gguf(kind: str, error: float, home: Path, tmp_path: Path) -> None:
    made = part("text_encoder_2", write_t5_gguf(home, kind, tmp_path / "t5.gguf"), home)
    assert made.config.dense_act_fn == "gelu_new"  # transformers' own reader of GGUF takes relu
    assert 0 < apart(features(made), features(own("text_encoder_2", home))) < error
    if kind != "F16":
        assert made.encoder.block[0].layer[0].SelfAttention.q.weight.dtype == torch.uint8
        assert (
            made.shared.weight.dtype
            == made.encoder.block[0].layer[1].DenseReluDense.wo.weight.dtype
            == torch.float32
        )


def test_encoders_in_half_precision(home: Path, tmp_path: Path) -> None:
    for name, make in STATES.items():
        save_file(make(home), tmp_path / "encoder.safetensors")
        made = part(name, tmp_path / "encoder.safetensors", home, torch.bfloat16)
        assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}
        assert apart(features(made).float(), features(own(name, home))) < 0.05
    file = write_t5_gguf(home, "Q8_0", tmp_path / "t5.gguf")
    assert features(part("text_encoder_2", file, home, torch.bfloat16)).dtype == torch.bfloat16


def test_an_autoencoder_in_either_naming(home: Path, tmp_path: Path) -> None:
    """BFL's, as ae.safetensors has it, and diffusers', alone and among other parts."""
    vae = own("vae", home)
    state = {name: tensor.detach() for name, tensor in vae.state_dict().items()}
    native = {spoken(name): tensor for name, tensor in state.items()}
    pixels = image_tensor()
    wanted = vae.encode(pixels).latent_dist.mean
    for number, found in enumerate((native, state, {f"vae.{k}": t for k, t in native.items()})):
        if number == 2:
            found |= {"model.diffusion_model.img_in.bias": torch.ones(3)}
        save_file({k: t.contiguous() for k, t in found.items()}, tmp_path / "ae.safetensors")
        made = part("vae", tmp_path / "ae.safetensors", home)
        assert made.config.scaling_factor == AUTOENCODER["scaling_factor"]
        assert torch.equal(made.encode(pixels).latent_dist.mean, wanted)


def image_tensor() -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


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


EXTRA = {"enc.blk.0.extra.weight": torch.ones(2)}
REFUSED: dict[str, tuple[str, Callable[[Path, Path], Path], str]] = {
    "further tensor": (
        "text_encoder_2",
        lambda home, at: saved(t5_state(home) | {"encoder.block.0.q_scale": torch.ones(1)}, at),
        "1 tensors of no known use, such as encoder.block.0.q_scale",
    ),
    "clip for T5": (
        "text_encoder_2",
        lambda home, at: saved(clip_state(home), at),
        "lacks .* encoder.block.0",
    ),
    "T5 for clip": ("text_encoder", lambda home, at: saved(t5_state(home), at), "lacks .* embeddings"),
    "two embeddings": (
        "text_encoder_2",
        lambda home, at: saved(t5_state(home) | {"shared.weight": torch.zeros(32, 64)}, at),
        "two embeddings",
    ),
    "another size": (
        "text_encoder",
        lambda home, at: saved(clip_state(home) | {"text_model.final_layer_norm.bias": torch.ones(3)}, at),
        r"final_layer_norm.bias has shape \(3,\), not \(64,\)",
    ),
    "pickle": ("vae", lambda home, at: renamed(at, "ae.ckpt"), "pickles are never opened"),
    "nothing": ("vae", lambda home, at: at / "none.safetensors", "file, or a folder, that exists"),
    "clip for an autoencoder": (
        "vae",
        lambda home, at: saved(clip_state(home), at),
        "none of FLUX.s",
    ),
    "further tensor of GGUF": (
        "text_encoder_2",
        lambda home, at: write_t5_gguf(
            home, "F16", at / "t5.gguf", {"enc.blk.0.extra.weight": torch.ones(2)}
        ),
        "1 tensors of no known use, such as enc.blk.0.extra.weight",
    ),
}


def saved(state: State, folder: Path) -> Path:
    save_file(state, folder / "part.safetensors")
    return folder / "part.safetensors"


def renamed(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(b"never read")
    return folder / name


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_are_refused_in_one_sentence(case: str, home: Path, tmp_path: Path) -> None:
    name, make, words = REFUSED[case]
    with pytest.raises(EditkitError, match=words):
        part(name, make(home, tmp_path), home)


def test_an_edit_from_files_alone(random_pipeline: Path, tmp_path: Path) -> None:
    """Every part from a file of its own; the recipe names each by its hash."""
    source = image(64, 48)
    plain = editkit.load(random_pipeline, "cpu").edit(source, "make it blue", steps=2)
    files = {"transformer": convert(random_pipeline / "transformer", tmp_path / "flux.safetensors")}
    for name in ("text_encoder", "text_encoder_2"):
        files[name] = tmp_path / f"{name}.safetensors"
        save_file(load_file(random_pipeline / name / "model.safetensors"), files[name])
    files["vae"] = tmp_path / "ae.safetensors"
    state = load_file(random_pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    save_file({spoken(name): tensor for name, tensor in state.items()}, files["vae"])
    result = editkit.load(random_pipeline, "cpu", axes=(8, 12, 12), **files).edit(
        source, "make it blue", steps=2
    )
    assert difference(result.image, plain.image) == 0
    weights = result.recipe["weights"]
    assert {part: weights[part] for part in files} == {p: atomic_files.sha256(f) for p, f in files.items()}
