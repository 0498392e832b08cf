"""Conversion of files and folders, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from backbones.conversion import key_map
from backbones.conversion.checkpoints import INDEX, WEIGHTS, convert
from editkit.errors import EditkitError
from tests.backbones.conversion.native_shapes import (
    AXES,
    TINY,
    Damage,
    listing,
    native_shapes,
    random_state,
    refused,
    same,
    tiny_model,
)


@pytest.mark.parametrize("shard", ["10GB", "20KB"])
def test_folder_to_file_and_back(tmp_path: Path, shard: str) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path / "before", max_shard_size=shard)
    assert (tmp_path / "before" / INDEX).is_file() == (shard == "20KB")
    file = convert(tmp_path / "before", tmp_path / "new" / "native.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in load_file(file).items()} == native_shapes(TINY)
    folder = convert(file, tmp_path / "after", AXES)
    assert same(load_file(folder / WEIGHTS), model.state_dict())
    again = FluxTransformer2DModel.from_pretrained(folder, local_files_only=True)
    inputs = {
        "hidden_states": torch.randn(1, 6, 24), "encoder_hidden_states": torch.randn(1, 5, 12),
        "pooled_projections": torch.randn(1, 10), "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([2.5]), "img_ids": torch.rand(6, 3), "txt_ids": torch.zeros(5, 3),
    }  # fmt: skip
    assert same(again.state_dict(), model.state_dict())
    for parameter in again.parameters():
        # A file's tensors lie anywhere in memory, by which some CPUs multiply otherwise in the last bits.
        parameter.data = parameter.data.clone()
    with torch.no_grad():
        assert torch.equal(again(**inputs).sample, model(**inputs).sample)


def test_native_file_survives_bit_for_bit(tmp_path: Path) -> None:
    native = random_state(native_shapes(TINY))
    native["img_in.weight"] = native["img_in.weight"].float()
    native["single_blocks.1.linear1.weight"] = native["single_blocks.1.linear1.weight"].to(
        torch.float8_e4m3fn
    )
    native["img_in.bias"][0] = float("nan")
    save_file({key_map.COMFYUI_PREFIX + k: t for k, t in native.items()}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "folder", AXES)
    back = convert(tmp_path / "folder", tmp_path / "b.safetensors")
    assert same(load_file(back), native)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["_class_name"] == "FluxTransformer2DModel"
    assert TINY.items() <= config.items()


HEAD = "double_blocks.0.img_attn.norm.query_norm.scale"

DAMAGES: list[tuple[Damage, str]] = [
    (lambda s: s.pop("txt_in.bias"), r"1 missing \(txt_in.bias\)"),
    (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
    (lambda s: [s.pop(k) for k in list(s) if k.startswith("double_blocks.0.")], r"24 missing \([^)]*, …\);"),
    (lambda s: [s.pop(k) for k in list(s) if k.startswith("single_blocks.")], "8 missing"),
    (lambda s: [s.pop(k) for k in list(s)], r"missing \(img_in.weight"),
    (lambda s: s.update({"single_blocks.0.linear1.bias": torch.ones(223)}), "not 224 rows"),
    (lambda s: s.update({"final_layer.adaLN_modulation.1.bias": torch.ones(63)}), "not 64 rows"),
    (lambda s: s.update({"img_in.weight": torch.ones(768)}), "img_in.weight are not; give"),
    (lambda s: s.update({HEAD: torch.ones(7)}), "32 cannot be divided into heads of 7"),
    (lambda s: s.update({"time_in.in_layer.weight": torch.ones(32, 255)}), "1 tensors do not fit"),
    (lambda s: s.update({"img_in.bias": torch.ones(32, dtype=torch.int64)}), "img_in.bias has dtype I64"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_other_tensors_are_refused(tmp_path: Path, damage: Damage, message: str) -> None:
    state = random_state(native_shapes(TINY))
    damage(state)
    save_file(state, tmp_path / "native.safetensors")
    before = listing(tmp_path)
    with pytest.raises(EditkitError, match=message) as refusal:
        convert(tmp_path / "native.safetensors", tmp_path / "sub" / "folder", AXES)
    assert "native.safetensors" in str(refusal.value)
    assert listing(tmp_path) == before


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", tmp_path / "out", "does not exist; give")
    for ending in ("pt", "ckpt", "bin", "pth"):
        # Unpickling it would raise AssertionError.
        (tmp_path / f"bad.{ending}").write_bytes(pickle.dumps(Bomb()))
        refused(tmp_path / f"bad.{ending}", tmp_path / "out", "is a pickle, never opened")
    (tmp_path / "flux.gguf").write_bytes(b"GGUF")
    refused(tmp_path / "flux.gguf", tmp_path / "out", "of another kind")
    for content in (b"", b"words, more than a header's eight bytes", pickle.dumps(Bomb())):
        (tmp_path / "fake.safetensors").write_bytes(content)
        refused(
            tmp_path / "fake.safetensors", tmp_path / "out", "fake.safetensors is missing, truncated or no"
        )


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return pytest.fail, ("unpickled",)


def test_truncated_file_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "native.safetensors"
    save_file(random_state(native_shapes(TINY)), file)
    whole = file.read_bytes()
    for length in (4, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        refused(file, tmp_path / "out", "truncated")


def test_destinations_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "native.safetensors"
    save_file(random_state(native_shapes(TINY)), file)
    refused(file, tmp_path / "out.safetensors", "a folder's name")
    folder = convert(file, tmp_path / "folder", AXES)
    refused(folder, tmp_path / "out", "ends in .safetensors")
    refused(file, folder, "exists")
    refused(folder, file, "exists")
    refused(file, file / "out", "cannot be written")


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows limits no file sizes")
    file = tmp_path / "native.safetensors"
    save_file(random_state(native_shapes(TINY)), file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size // 2, hard))
    try:
        refused(file, tmp_path / "out", "out cannot be written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_other_folders_are_refused(tmp_path: Path) -> None:
    folder, out = tmp_path / "transformer", tmp_path / "native.safetensors"
    folder.mkdir()
    refused(folder, out, "config.json cannot be read")
    for config in ("{", "[]", '{"_class_name": "AutoencoderKL"}'):
        (folder / "config.json").write_text(config)
        refused(folder, out, "config.json cannot be read|only a FluxTransformer2DModel")
    (folder / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')
    (folder / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    refused(folder, out, "pickles are never opened")
    weight_maps: tuple[Any, ...] = ({}, [], {"a": 1}, {"a": "../other.safetensors"})
    for weight_map in weight_maps:
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        refused(folder, out, "names no files beside it")
    (folder / "model_index.json").write_text("{}")
    refused(folder, out, "whole pipeline; give .*transformer/transformer")


def test_lost_and_damaged_shards_are_refused(tmp_path: Path) -> None:
    folder, out = tmp_path / "transformer", tmp_path / "native.safetensors"
    tiny_model().save_pretrained(folder, max_shard_size="100KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    refused(folder, out, f"{shard.name} is missing, truncated")
    shard.unlink()
    refused(folder, out, f"{shard.name} is missing, truncated")
    save_file({"proj_out.bias": torch.ones(8)}, shard)
    refused(folder, out, "diffusers' naming: .* missing")
