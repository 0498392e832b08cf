"""Rows that are read alone are those of the whole weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel

from backbones.conversion import state_dict
from backbones.flux import Flux, load_flux
from backbones.load_options import LoadOptions
from backbones.loading import load_transformer
from backbones.weight_slices import Piece, WeightSlices, open_slices
from editkit.backbone import WeightReader
from editkit.errors import EditkitError
from tests.random_weights import transformer_config
from tests.weight_files import SPELLINGS, STAY_SMALL, State, comfy_first, fp8, prefixed, write, write_gguf

AXES = (8, 12, 12)


@pytest.fixture(scope="module")
def plain(random_flux: Flux) -> State:
    return {name: t.detach() for name, t in random_flux.transformer("kontext").state_dict().items()}


def several(state: State, folder: Path) -> Path:
    model = FluxTransformer2DModel.from_config(transformer_config())
    model.load_state_dict(state)
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


SOURCES = {
    "folder": several,
    "diffusers' names": lambda state, folder: write((state, {}), folder / "flux.safetensors"),
    "native": lambda state, folder: write(
        (state_dict.diffusers_to_native(state), {}), folder / "flux.safetensors"
    ),
    "native, prefix, bf16": lambda state, folder: write(
        prefixed(({name: t.bfloat16() for name, t in state_dict.diffusers_to_native(state).items()}, {})),
        folder / "flux.safetensors",
    ),
    "native, fp8 without scales": lambda state, folder: write(
        fp8(state_dict.diffusers_to_native(state)), folder / "flux.safetensors"
    ),
}


def assert_rows(reader: WeightReader, whole: State) -> None:
    """In two unequal parts, in the rows around each place where fused weights meet, and all at once."""
    for name, weight in whole.items():
        rows = len(weight)
        for start, end in ((0, rows // 3), (rows // 3, rows), (rows // 2 - 1, rows // 2 + 1), (0, rows)):
            read = reader.rows(name, start, end).to(weight.dtype)
            assert torch.equal(read, weight[start:end]), (name, start, end)


@pytest.mark.parametrize("source", SOURCES)
def test_rows_are_those_of_the_whole(source: str, plain: State, tmp_path: Path) -> None:
    where = SOURCES[source](plain, tmp_path)
    found = open_slices(where, AXES, torch.float32)
    assert found is not None
    made, reader = found
    assert all(p.is_meta and p.dtype == torch.float32 for p in made.parameters())
    whole = load_transformer(LoadOptions(transformer=where, axes=AXES), "kontext", Path, torch.float32)
    assert {key: made.config[key] for key in transformer_config()} == {
        key: whole.config[key] for key in transformer_config()
    }
    assert_rows(reader, dict(whole.state_dict()))


@pytest.mark.parametrize("spelling", STAY_SMALL)
def test_rows_of_quantized_weights_are_not_read_alone(spelling: str, plain: State, tmp_path: Path) -> None:
    written = SPELLINGS[spelling][0](state_dict.diffusers_to_native(plain))
    assert open_slices(write(written, tmp_path / "flux.safetensors"), AXES, torch.float32) is None


def test_gguf_is_read_whole_or_refused(plain: State, tmp_path: Path) -> None:
    """Shards of its blocks would lose how they are quantized."""
    native = state_dict.diffusers_to_native(plain)
    whole, _ = write_gguf(native, "BF16", tmp_path / "bf16.gguf")
    assert open_slices(whole, AXES, torch.float32) is None
    packed, _ = write_gguf(native, "Q8_0", tmp_path / "q8.gguf")
    empty = load_flux("tiny", "cpu", loading={"transformer": {"kontext": str(packed)}, "axes": AXES})
    with pytest.raises(EditkitError, match="GGUF's blocks cannot be cut into shards; take fp8 or NF4"):
        empty.empty_transformer("kontext")


def test_rows_of_scaled_fp8_without_its_scales_are_refused(plain: State, tmp_path: Path) -> None:
    state, _ = comfy_first(state_dict.diffusers_to_native(plain))
    bare = {name: t for name, t in state.items() if "scale_" not in name}
    found = open_slices(write((bare, {}), tmp_path / "flux.safetensors"), AXES, torch.float32)
    assert found is not None
    with pytest.raises(EditkitError, match=r"img_attn\.qkv holds fp8 values that were scaled, and no scale"):
        found[1].rows("transformer_blocks.0.attn.to_q.weight", 0, 64)


def test_a_piece_may_begin_and_end_anywhere(tmp_path: Path) -> None:
    state = {"a": torch.arange(12.0).reshape(6, 2), "b": 100 + torch.arange(8.0).reshape(4, 2)}
    file = write((state, {}), tmp_path / "rows.safetensors")
    weights = WeightSlices({"w": [Piece(file, "b", 2, 4), Piece(file, "a", 1, 4), Piece(file, "b", 0, 2)]})
    whole = torch.cat((state["b"][2:], state["a"][1:4], state["b"][:2]))
    for start in range(7):
        for end in range(start + 1, 8):
            assert torch.equal(weights.rows("w", start, end), whole[start:end])


@pytest.mark.parametrize(("start", "role"), [("kontext", "fill"), ("fill", "ace"), ("kontext", "ace")])
def test_a_start_has_the_rows_of_the_widened_transformer(start: str, role: str) -> None:
    empty, whole = load_flux("tiny", "cpu"), load_flux("tiny", "cpu")
    reader = empty.empty_transformer(role, start)
    assert reader is not None
    made = empty.transformer(role)
    assert made.device.type == "meta"
    assert made.config.in_channels == empty.role(role).in_channels
    whole.widen(role, start)
    assert_rows(reader, dict(whole.transformer(role).state_dict()))


def test_a_role_without_weights_of_its_own_is_read_where_it_starts() -> None:
    empty = load_flux("tiny", "cpu")
    reader = empty.empty_transformer("ace")
    assert reader is not None
    assert_rows(reader, dict(load_flux("tiny", "cpu").transformer("ace").state_dict()))


def test_what_is_wrong_with_files_is_said(plain: State, tmp_path: Path) -> None:
    folder = several(plain, tmp_path / "folder")
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    told = json.loads(index.read_text())
    lost = told["weight_map"]["proj_out.weight"]
    content = (folder / lost).read_bytes()
    (folder / lost).write_bytes(content[:1000])
    with pytest.raises(EditkitError, match=f"The transformer in {folder} cannot be loaded .*{lost}"):
        open_slices(folder, None, torch.float32)
    (folder / lost).unlink()
    with pytest.raises(EditkitError, match=f"The transformer in {folder} cannot be loaded .*{lost}"):
        open_slices(folder, None, torch.float32)
    wrong = (
        ("config.json", [1], "its config.json holds no JSON object"),
        (index.name, [1], f"its {index.name} holds no JSON object"),
        (index.name, {"weight_map": ["a"]}, f"its {index.name} names no files"),
        (index.name, {"weight_map": {"a": 1}}, r"\b1 is missing"),
    )
    for name, content, words in wrong:
        kept = (folder / name).read_text()
        (folder / name).write_text(json.dumps(content))
        with pytest.raises(EditkitError, match=f"The transformer in {folder} cannot be loaded .*{words}"):
            open_slices(folder, None, torch.float32)
        (folder / name).write_text(kept)
    index.unlink()
    write(
        ({**plain, "x_embedder.bias": torch.tensor(0.0)}, {}), folder / "diffusion_pytorch_model.safetensors"
    )
    with pytest.raises(EditkitError, match=f"{folder} cannot be loaded .*x_embedder.bias has shape"):
        open_slices(folder, None, torch.float32)
    narrow = {**plain, "norm_out.linear.weight": plain["norm_out.linear.weight"][:, 1:]}
    file = write((state_dict.diffusers_to_native(narrow), {}), tmp_path / "flux.safetensors")
    with pytest.raises(EditkitError, match=r"flux\.safetensors cannot be loaded .*norm_out\.linear\.weight"):
        open_slices(file, AXES, torch.float32)
    native = state_dict.diffusers_to_native(plain)
    native.pop("final_layer.adaLN_modulation.1.bias")
    file = write((native, {}), tmp_path / "flux.safetensors")
    with pytest.raises(EditkitError, match=r"1 missing \(final_layer\.adaLN_modulation\.1\.bias\)"):
        open_slices(file, AXES, torch.float32)
