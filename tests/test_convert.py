"""FLUX checkpoints: the key map at official sizes, bit-exact round trips, and what is refused."""

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from backbones.conversion import state_dict
from backbones.conversion.checkpoints import INDEX, WEIGHTS, convert
from editkit.errors import EditkitError

Shape = tuple[int, ...]
State = dict[str, Tensor]

OFFICIAL: dict[str, dict[str, Any]] = {
    "kontext": {"in_channels": 64, "guidance_embeds": True},
    "fill": {"in_channels": 384, "guidance_embeds": True},
    "schnell": {"in_channels": 64, "guidance_embeds": False},
}
FULL = {
    "out_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768,
    "axes_dims_rope": [16, 56, 56],
}  # fmt: skip
TINY = {
    "in_channels": 24, "out_channels": 8, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 12, "pooled_projection_dim": 10,
    "axes_dims_rope": [4, 6, 6], "guidance_embeds": True,
}  # fmt: skip
AXES = (4, 6, 6)


def linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def native_shapes(config: dict[str, Any]) -> dict[str, Shape]:
    """Names and shapes as Black Forest Labs' model.py declares them, by the architecture's arithmetic."""
    head, width = config["attention_head_dim"], config["attention_head_dim"] * config["num_attention_heads"]

    def tensors() -> Iterator[tuple[str, Shape]]:
        yield from linear("img_in", width, config["in_channels"])
        yield from linear("txt_in", width, config["joint_attention_dim"])
        embedders = {"time_in": 256, "vector_in": config["pooled_projection_dim"]}
        embedders |= {"guidance_in": 256} if config["guidance_embeds"] else {}
        for embedder, columns in embedders.items():
            yield from linear(f"{embedder}.in_layer", width, columns)
            yield from linear(f"{embedder}.out_layer", width, width)
        for number in range(config["num_layers"]):
            for stream in ("img", "txt"):
                block = f"double_blocks.{number}.{stream}"
                yield from linear(f"{block}_mod.lin", 6 * width, width)
                yield from linear(f"{block}_attn.qkv", 3 * width, width)
                yield f"{block}_attn.norm.query_norm.scale", (head,)
                yield f"{block}_attn.norm.key_norm.scale", (head,)
                yield from linear(f"{block}_attn.proj", width, width)
                yield from linear(f"{block}_mlp.0", 4 * width, width)
                yield from linear(f"{block}_mlp.2", width, 4 * width)
        for number in range(config["num_single_layers"]):
            block = f"single_blocks.{number}"
            yield from linear(f"{block}.linear1", 3 * width + 4 * width, width)
            yield from linear(f"{block}.linear2", width, width + 4 * width)
            yield f"{block}.norm.query_norm.scale", (head,)
            yield f"{block}.norm.key_norm.scale", (head,)
            yield from linear(f"{block}.modulation.lin", 3 * width, width)
        yield from linear("final_layer.linear", config["out_channels"], width)
        yield from linear("final_layer.adaLN_modulation.1", 2 * width, width)

    return dict(tensors())


def random_state(shapes: dict[str, Shape], dtype: torch.dtype = torch.bfloat16) -> State:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def tiny_model() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    return FluxTransformer2DModel.from_config(TINY).eval()


def same(one: State, other: State) -> bool:
    """Equal names, dtypes, shapes and bits."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype
        and tensor.shape == other[name].shape
        and torch.equal(tensor.contiguous().view(torch.uint8), other[name].contiguous().view(torch.uint8))
        for name, tensor in one.items()
    )


def listing(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_sizes_map_both_ways(name: str) -> None:
    config = FULL | OFFICIAL[name]
    shapes = native_shapes(config)
    # 19 x 2 x 12 + 38 x 8 + img_in 2, txt_in 2, time_in 4, vector_in 4, final_layer 4, and guidance_in 4.
    assert len(shapes) == 456 + 304 + 16 + (4 if config["guidance_embeds"] else 0)
    with torch.device("meta"):
        model = FluxTransformer2DModel.from_config(config)
    native = {key: torch.empty(shape, dtype=torch.bfloat16, device="meta") for key, shape in shapes.items()}
    converted = state_dict.native_to_diffusers(native)
    assert {k: t.shape for k, t in converted.items()} == {k: t.shape for k, t in model.state_dict().items()}
    assert {k: tuple(t.shape) for k, t in state_dict.diffusers_to_native(converted).items()} == shapes
    assert {t.dtype for t in converted.values()} == {torch.bfloat16}
    assert state_dict.infer_config(native) == config


@pytest.mark.parametrize("guidance", [True, False])
def test_agrees_with_diffusers_own_conversion(guidance: bool) -> None:
    # diffusers' function cuts rows at a width of 3072, whatever the columns: two keep the test small.
    shapes = native_shapes(FULL | {"in_channels": 64, "guidance_embeds": guidance, "num_layers": 2,
                                   "num_single_layers": 2})  # fmt: skip
    native = random_state({name: (shape[0], 2)[: len(shape)] for name, shape in shapes.items()})
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(native))
    assert same(state_dict.native_to_diffusers(native), theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_round_trips_are_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    native = random_state(native_shapes(TINY), dtype)
    # safetensors refuses tensors that share memory, as uncopied rows of one fused tensor would.
    save_file(state_dict.native_to_diffusers(native), tmp_path / "rows.safetensors")
    assert same(state_dict.diffusers_to_native(state_dict.native_to_diffusers(native)), native)
    diffusers = {name: tensor.to(dtype) for name, tensor in tiny_model().state_dict().items()}
    assert same(state_dict.native_to_diffusers(state_dict.diffusers_to_native(diffusers)), diffusers)


def test_comfyui_prefix_is_taken_off() -> None:
    native = random_state(native_shapes(TINY))
    prefixed = {state_dict.COMFYUI_PREFIX + name: tensor for name, tensor in native.items()}
    assert same(state_dict.native_to_diffusers(prefixed), state_dict.native_to_diffusers(native))
    assert state_dict.infer_config(prefixed, AXES) == TINY
    with pytest.raises(EditkitError, match="twice"):
        state_dict.native_to_diffusers(prefixed | native)


def test_axes_are_given_where_heads_are_not_128_wide() -> None:
    native = random_state(native_shapes(TINY))
    assert state_dict.infer_config(native, AXES) == TINY
    with pytest.raises(EditkitError, match=r"16 dimensions leave the RoPE axes open.* --axes"):
        state_dict.infer_config(native)
    for axes in ((4, 6, 4), (5, 5, 6), (8, 8), (0, 8, 8), ()):
        with pytest.raises(EditkitError, match=r"do not fit.* sum to 16 with --axes"):
            state_dict.infer_config(native, axes)


def test_fill_widens_to_ace_with_its_mask_moved() -> None:
    fill_DC = torch.randn(6, 384)
    ace_DC = state_dict.widen_input(fill_DC, 448, state_dict.FILL_TO_ACE)
    assert torch.equal(ace_DC[:, :128], fill_DC[:, :128])
    assert not ace_DC[:, 128:192].any()
    assert torch.equal(ace_DC[:, 192:], fill_DC[:, 128:])
    wide_DC = state_dict.widen_input(torch.ones(6, 64, dtype=torch.bfloat16, device="meta"), 384, range(64))
    assert (wide_DC.shape, wide_DC.dtype) == ((6, 384), torch.bfloat16)
    for columns in (range(63), [0] * 64, range(1, 385), range(-1, 63)):
        with pytest.raises(EditkitError, match="column of its own"):
            state_dict.widen_input(torch.ones(6, 64), 128 if len(columns) == 64 else 64, columns)


def test_join_needs_alike_parts() -> None:
    state = state_dict.native_to_diffusers(random_state(native_shapes(TINY)))
    key = "transformer_blocks.0.attn.to_k.weight"
    with pytest.raises(EditkitError, match="differ in dtype"):
        state_dict.diffusers_to_native(state | {key: state[key].float()})
    with pytest.raises(EditkitError, match="not 32 rows"):
        state_dict.diffusers_to_native(state | {key: state[key][:-1]})


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
    save_file({state_dict.COMFYUI_PREFIX + k: t for k, t in native.items()}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "folder", AXES)
    back = convert(tmp_path / "folder", tmp_path / "b.safetensors")
    assert same(load_file(back), native)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["_class_name"] == "FluxTransformer2DModel"
    assert TINY.items() <= config.items()


HEAD = "double_blocks.0.img_attn.norm.query_norm.scale"
Damage = Callable[[State], Any]
DAMAGES: list[tuple[Damage, str]] = [
    (lambda s: s.pop("txt_in.bias"), r"1 missing \(txt_in.bias\)"),
    (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
    (lambda s: [s.pop(k) for k in list(s) if k.startswith("double_blocks.0.")], r"24 missing \([^)]*, …\);"),
    (lambda s: [s.pop(k) for k in list(s) if k.startswith("single_blocks.")], "8 missing"),
    (lambda s: [s.pop(k) for k in list(s)], r"missing \(img_in.weight"),
    (lambda s: s.update({"single_blocks.0.linear1.bias": torch.ones(223)}), "not 224 rows"),
    (lambda s: s.update({"final_layer.adaLN_modulation.1.bias": torch.ones(63)}), "not 64 rows"),
    (lambda s: s.update({"img_in.weight": torch.ones(768)}), "img_in.weight; give"),
    (lambda s: s.update({HEAD: torch.ones(7)}), "32 into heads of 7"),
    (lambda s: s.update({"time_in.in_layer.weight": torch.ones(32, 255)}), "1 tensors misfit"),
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


def refused(source: Path, destination: Path, message: str) -> None:
    """A conversion fails with one sentence that fits `message`, and leaves the disk as it was."""
    before = listing(source.parent)
    with pytest.raises(EditkitError, match=message):
        convert(source, destination, AXES)
    assert listing(source.parent) == before


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


def autoencoder_shapes(base: int, factors: tuple[int, ...], blocks: int) -> dict[str, Shape]:
    """FLUX's native autoencoder by its arithmetic: 3 channels, 16 latent channels."""

    def resnet(name: str, before: int, after: int) -> Iterator[tuple[str, Shape]]:
        for norm, conv, channels in (("norm1", "conv1", before), ("norm2", "conv2", after)):
            yield from {f"{name}.{norm}.weight": (channels,), f"{name}.{norm}.bias": (channels,)}.items()
            yield from convolution(f"{name}.{conv}", channels, after, 3)
        if before != after:
            yield from convolution(f"{name}.nin_shortcut", before, after, 1)

    def convolution(name: str, before: int, after: int, size: int) -> Iterator[tuple[str, Shape]]:
        yield from {f"{name}.weight": (after, before, size, size), f"{name}.bias": (after,)}.items()

    def half(side: str, level: str, resample: str, ends: tuple[int, int]) -> Iterator[tuple[str, Shape]]:
        widths = [base * factor for factor in factors]
        path = list(enumerate(widths)) if side == "encoder" else list(enumerate(widths))[::-1]
        width, deepest = path[0][1], widths[-1]
        yield from convolution(f"{side}.conv_in", ends[0], width, 3)
        for number, after in path:
            for block in range(blocks + (side == "decoder")):
                yield from resnet(f"{side}.{level}.{number}.block.{block}", width, after)
                width = after
            if number != path[-1][0]:
                yield from convolution(f"{side}.{level}.{number}.{resample}.conv", width, width, 3)
        for name in ("block_1", "block_2"):
            yield from resnet(f"{side}.mid.{name}", deepest, deepest)
        for name in ("q", "k", "v", "proj_out"):
            yield from convolution(f"{side}.mid.attn_1.{name}", deepest, deepest, 1)
        for name, channels in ((f"{side}.mid.attn_1.norm", deepest), (f"{side}.norm_out", width)):
            yield from {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}.items()
        yield from convolution(f"{side}.conv_out", width, ends[1], 3)

    return dict(
        [*half("encoder", "down", "downsample", (3, 32)), *half("decoder", "up", "upsample", (16, 3))]
    )


def test_official_autoencoder_fits(tmp_path: Path) -> None:
    shapes = autoencoder_shapes(128, (1, 2, 4, 4), 2)
    assert len(shapes) == 244
    # One byte per value in place of four keeps the test small; dtypes pass as they are.
    state = {name: torch.zeros(shape, dtype=torch.float8_e4m3fn) for name, shape in shapes.items()}
    save_file(state, tmp_path / "ae.safetensors")
    config = json.loads((convert(tmp_path / "ae.safetensors", tmp_path / "vae") / "config.json").read_text())
    official = {
        "_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
        "in_channels": 3, "out_channels": 3, "latent_channels": 16, "norm_num_groups": 32, "act_fn": "silu",
        "force_upcast": True, "mid_block_add_attention": True, "sample_size": 1024, "scaling_factor": 0.3611,
        "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
    }  # fmt: skip
    assert official.items() <= config.items()


def test_autoencoder_values_arrive(tmp_path: Path) -> None:
    native = random_state(autoencoder_shapes(32, (1, 2), 1), torch.float32)
    save_file(native, tmp_path / "ae.safetensors")
    folder = convert(tmp_path / "ae.safetensors", tmp_path / "vae")
    vae, report = AutoencoderKL.from_pretrained(folder, output_loading_info=True, local_files_only=True)
    assert not any(report.values())
    places = {
        "encoder.down.1.block.0.conv1.weight": vae.encoder.down_blocks[1].resnets[0].conv1.weight,
        "encoder.down.0.downsample.conv.bias": vae.encoder.down_blocks[0].downsamplers[0].conv.bias,
        "decoder.up.1.block.1.norm2.weight": vae.decoder.up_blocks[0].resnets[1].norm2.weight,
        "decoder.up.0.block.0.nin_shortcut.bias": vae.decoder.up_blocks[1].resnets[0].conv_shortcut.bias,
        "decoder.mid.block_2.conv2.weight": vae.decoder.mid_block.resnets[1].conv2.weight,
        "encoder.norm_out.bias": vae.encoder.conv_norm_out.bias,
    }
    assert same({name: tensor.detach() for name, tensor in places.items()}, {n: native[n] for n in places})
    query = vae.decoder.mid_block.attentions[0].to_q.weight
    assert torch.equal(query, native["decoder.mid.attn_1.q.weight"][:, :, 0, 0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("encoder.conv_in.weight"), "no complete FLUX autoencoder .*encoder.conv_in.weight"),
        (lambda s: s.pop("decoder.up.1.upsample.conv.bias"), "no complete FLUX .*upsample.conv.bias"),
        (lambda s: s.pop("encoder.mid.attn_1.q.bias"), "1 tensors misfit .*mid_block.attentions.0.to_q.bias"),
        (lambda s: s.update(logvar=torch.ones(1)), r"1 tensors are none of FLUX's autoencoder \(logvar\)"),
        (lambda s: s.update({"quant_conv.weight": torch.ones(32, 32, 1, 1)}), "misfit .*quant_conv"),
        (lambda s: s.update({"encoder.down.0.block.0.conv1.weight": torch.ones(20, 32, 3, 3)}), "builds no"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("encoder.down")], "complete .*encoder.down.0"),
        (lambda s: s.update({"encoder.conv_in.weight": torch.ones(3)}), "no complete FLUX autoencoder"),
    ],
)  # fmt: skip
def test_other_autoencoders_are_refused(tmp_path: Path, damage: Damage, message: str) -> None:
    state = random_state(autoencoder_shapes(32, (1, 2), 1))
    damage(state)
    save_file(state, tmp_path / "ae.safetensors")
    refused(tmp_path / "ae.safetensors", tmp_path / "vae", message)
