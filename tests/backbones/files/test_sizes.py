"""Law: the bytes that estimates count of a file are those of the network that is loaded from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import nn

from backbones import inventory
from backbones.file_sizes import file_bytes, largest_block
from backbones.load_options import LoadOptions
from backbones.loading import load_transformer
from backbones.low_memory import published_weights
from backbones.meta_init import MetaFlux
from backbones.weight_tracker import tensors, weight_bytes
from editkit.errors import EditkitError
from tests.backbones.files.encoders import clip_state, component, t5_state
from tests.backbones.files.networks import AXES
from tests.command_line import Cli
from tests.weight_files import SPELLINGS, State, write, write_gguf


def _transformer(file: Path, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    options = LoadOptions(transformer=file, axes=AXES)
    return load_transformer(options, "kontext", Path, dtype)


def _counted(file: Path, part: str = "transformer") -> float:
    return sum(file_bytes(file, part).values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("kind", SPELLINGS)
def test_safetensors(kind: str, dtype: torch.dtype, native: State, tmp_path: Path) -> None:
    make, _ = SPELLINGS[kind]
    file = write(make(native), tmp_path / "flux.safetensors")
    # In this small network the tables of 4-bit files count too, and joined matrices' scales after the split.
    counted = sum(file_bytes(file, "transformer", dtype.itemsize).values())
    assert counted == pytest.approx(weight_bytes(tensors(_transformer(file, dtype))), rel=0.03)


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q4_K", "BF16"])
def test_gguf(kind: str, wide_native: State, tmp_path: Path) -> None:
    file, _ = write_gguf(wide_native, kind, tmp_path / "flux.gguf")
    sizes = file_bytes(file, "transformer")
    assert sum(sizes.values()) == weight_bytes(tensors(_transformer(file)))
    block, outside = largest_block(sizes)
    blocks = ("double_blocks.0.", "single_blocks.0.")
    each = [sum(size for name, size in sizes.items() if name.startswith(stem)) for stem in blocks]
    assert (block, outside) == (max(each), sum(sizes.values()) - sum(each))


def test_encoders(home: Path, tmp_path: Path) -> None:
    for part, state in (("text_encoder", clip_state(home)), ("text_encoder_2", t5_state(home))):
        file = tmp_path / f"{part}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
        loaded = component(part, file, home, torch.bfloat16)
        assert _counted(file, part) == weight_bytes(loaded.parameters())


def test_encoders_with_whole_numbers_beside_their_weights(home: Path, tmp_path: Path) -> None:
    """ComfyUI's T5 holds its vocabulary in bytes, OpenAI's CLIP its positions."""
    beside = {
        "text_encoder": ("text_model.embeddings.position_ids", torch.arange(77)[None], clip_state(home)),
        "text_encoder_2": ("spiece_model", torch.zeros(9, dtype=torch.uint8), t5_state(home)),
    }
    for part, (name, values, state) in beside.items():
        file = tmp_path / f"{part}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in state.items()} | {name: values}, file)
        told = inventory.weight_file(file)
        assert told is not None
        assert told.models == {part: _counted(file, part)}


def test_an_autoencoder(home: Path) -> None:
    file = home / "vae" / "diffusion_pytorch_model.safetensors"
    loaded = AutoencoderKL.from_pretrained(home / "vae", torch_dtype=torch.bfloat16)
    assert _counted(file, "vae") == weight_bytes(loaded.parameters())


def test_what_fits_counts_files(wide_native: State, tmp_path: Path) -> None:
    file, _ = write_gguf(wide_native, "Q4_0", tmp_path / "flux.gguf")
    fits = inventory.memory_fits(24e9, {"transformer": {"kontext": str(file)}})
    roles = {each.role: each for each in fits if each.family == "flux1-dev"}
    published = published_weights()
    assert roles["kontext"].transformer == _counted(file)
    assert roles["fill"].transformer == published.transformer
    assert (roles["kontext"].preset, roles["kontext"].travels) == ("", 0)
    assert roles["kontext"].encoders == published.encoders


def test_a_small_card_takes_auto_for_a_small_file(wide_native: State, tmp_path: Path) -> None:
    file, _ = write_gguf(wide_native, "Q4_0", tmp_path / "flux.gguf")
    fits = inventory.memory_fits(8e9, {"transformer": {"kontext": str(file)}})
    roles = {each.role: each for each in fits if each.family == "flux1-dev"}
    assert (roles["kontext"].preset, roles["fill"].preset) == ("auto", None)
    assert roles["kontext"].travels == 0
    assert roles["kontext"].peak <= 8e9 - inventory.ROOM


def test_the_command_tells_what_it_counts(wide_native: State, home: Path, tmp_path: Path, cli: Cli) -> None:
    file, _ = write_gguf(wide_native, "Q8_0", tmp_path / "flux.gguf")
    clip = tmp_path / "clip.safetensors"
    save_file(clip_state(home), clip)
    load = ["--load", f"transformer={file}", "--load", f"text_encoder={clip}"]
    run = cli("backbones", "--plan-device", "rtx4090-24g", *load)
    assert run.status == 0, run.err
    assert "transformer and text_encoder as in the files given, the rest in bfloat16" in run.out
    assert f"{_counted(file) / 1e9:.3g}" in run.out


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EditkitError, match=r"none.gguf cannot be counted; give a .safetensors or .gguf file that exists"
    ):
        inventory.memory_fits(24e9, {"transformer": str(tmp_path / "none.gguf")})


def test_a_run_that_is_planned_counts_files(home: Path, wide_native: State, tmp_path: Path) -> None:
    """A text encoder's own, and a transformer's for the mean bytes of its weights."""
    t5 = tmp_path / "t5.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in t5_state(home).items()}, t5)
    planned = MetaFlux("tiny", LoadOptions(text_encoder_2=t5)).component_bytes("kontext", 2)
    assert planned["text_encoder_2"] == _counted(t5, "text_encoder_2")
    files = [write_gguf(wide_native, kind, tmp_path / f"{kind}.gguf")[0] for kind in ("Q4_0", "BF16")]
    small, plain = (MetaFlux("tiny", LoadOptions(transformer=file)) for file in files)
    share = small.weight_bytes("kontext", 2) / plain.weight_bytes("kontext", 2)
    assert share == pytest.approx(_counted(files[0]) / _counted(files[1]))
    assert share < 0.5
