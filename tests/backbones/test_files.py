"""Parity and law: weight files in every format that people hold give the network that they were made from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor

from backbones.conversion import key_map, state_dict
from backbones.conversion.weights import open_weights
from backbones.load_options import LoadOptions
from backbones.loading import load_transformer, place_transformer
from backbones.quantized import dequantize
from backbones.widening import widen_transformer
from editkit import adapters, config
from editkit.adapters import LoraOptions
from editkit.errors import EditkitError
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from tests import ROOT
from tests.random_weights import transformer_config
from tests.weight_files import (
    SPELLINGS,
    STAY_SMALL,
    State,
    Written,
    comfy_hints,
    four_bits,
    nvfp4,
    write,
    write_gguf,
)

AXES = (8, 12, 12)


@pytest.fixture(scope="module")
def plain(random_flux: Any) -> FluxTransformer2DModel:
    return random_flux.transformer("kontext")


@pytest.fixture(scope="module")
def native(plain: FluxTransformer2DModel) -> State:
    return state_dict.diffusers_to_native({n: t.detach() for n, t in plain.state_dict().items()})


@torch.no_grad()
def predict(transformer: FluxTransformer2DModel) -> Tensor:
    """Its prediction for some input, wherever it is."""
    generator, device = torch.Generator().manual_seed(3), transformer.device

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    places = torch.cat([torch.zeros(12, 1), torch.arange(24.0).reshape(12, 2)], 1)
    made = transformer(
        hidden_states=draw(1, 12, transformer.config.in_channels),
        encoder_hidden_states=draw(1, 5, transformer.config.joint_attention_dim),
        pooled_projections=draw(1, transformer.config.pooled_projection_dim),
        timestep=torch.tensor([0.5], device=device),
        guidance=torch.tensor([2.5], device=device),
        img_ids=places.to(device),
        txt_ids=torch.zeros(5, 3, device=device),
    )
    return made.sample.cpu()


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def loaded(file: Path, axes: tuple[int, ...] = AXES, **options: Any) -> FluxTransformer2DModel:
    return load_transformer(
        LoadOptions(transformer=file, axes=axes, **options), "kontext", Path, torch.float32
    )


def held(model: torch.nn.Module) -> int:
    """Bytes of parameters and buffers, 4-bit statistics aside."""
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])


@pytest.mark.parametrize("kind", SPELLINGS)
def test_a_safetensors_file_gives_its_network(
    kind: str, native: State, plain: FluxTransformer2DModel, tmp_path: Path
) -> None:
    make, error = SPELLINGS[kind]
    made = loaded(write(make(native), tmp_path / "flux.safetensors"))
    assert 0 < apart(predict(made), predict(plain)) < error
    if kind in STAY_SMALL:
        assert held(made) < 0.6 * held(plain)


GGUF = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
        "BF16", "F16"]  # fmt: skip
WIDE = transformer_config() | {"num_attention_heads": 8, "num_single_layers": 1}
"""256 columns, which blocks of 256 need."""


@pytest.fixture(scope="module")
def wide_native() -> State:
    torch.manual_seed(0)
    model = FluxTransformer2DModel.from_config(WIDE)
    return state_dict.diffusers_to_native({n: t.detach() for n, t in model.state_dict().items()})


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


def values(model: torch.nn.Module) -> State:
    """A model's plain and packed tensors with their scales."""
    state = {f"{name} {i}": tensor for name, m in model.named_modules() for i, tensor in m._buffers.items()}
    state |= dict(model.named_parameters())
    for name, parameter in model.named_parameters():
        if statistics := getattr(parameter, "quant_state", None):
            state |= {f"{name} absmax": statistics.absmax, f"{name} code": statistics.code}
    return {
        name: torch.as_tensor(t).detach().reshape(-1).view(torch.uint8).clone()
        for name, t in state.items()
        if t is not None
    }


def disturbed(tensor: Tensor) -> Tensor:
    """Another tensor of the same shape and dtype."""
    changed = tensor.reshape(-1).view(torch.uint8).clone()
    changed ^= 0x11
    return changed.view(tensor.dtype).reshape(tensor.shape)


UNUSED = ("scale_input", "input_scale")
"""Activations of fp8 are scaled row by row as they come; those of NVFP4 by the file's scale."""


EVERY = "fp8 scaled, hints"
"""Of this kind all tensors are tried, of the others those of two layers, one of which is split."""


@pytest.mark.parametrize("kind", [name for name in SPELLINGS if "prefix" not in name])
def test_every_tensor_of_a_file_counts(kind: str, native: State, tmp_path: Path) -> None:
    """Law: a changed tensor changes the network or is refused, and so is a further one, by its name."""
    state, header = SPELLINGS[kind][0](native)
    file = tmp_path / "flux.safetensors"
    before = values(loaded(write((state, header), file)))
    tried = [
        name
        for name in state
        if (kind == EVERY or name.startswith(("double_blocks.0.img_attn.qkv.", "single_blocks.0.linear2.")))
        and not (name.endswith(UNUSED) and "NVFP4" not in kind)
    ]
    assert len(tried) > 3
    for name in tried:
        write((state | {name: disturbed(state[name])}, header), file)
        try:
            after = values(loaded(file))
        except EditkitError:
            continue
        assert any(not torch.equal(after[key], before[key]) for key in before), name
    further = "double_blocks.0.img_mlp.0.weight_scale_inv"
    write((state | {further: torch.ones(1)}, header), file)
    with pytest.raises(EditkitError, match=further):
        loaded(file)


@pytest.mark.parametrize("kind", ["fp8 scaled, hints", "NVFP4, ComfyUI", "NF4", "GGUF"])
@pytest.mark.parametrize("options", [{"offload": "block"}, {"offload": "leaf"}, {"attention": "native"}])
def test_other_options_go_with_quantized_files(
    kind: str, options: dict[str, Any], native: State, tmp_path: Path
) -> None:
    if kind == "GGUF":
        file, _ = write_gguf(native, "Q8_0", tmp_path / "flux.gguf")
    else:
        file = write(SPELLINGS[kind][0](native), tmp_path / "flux.safetensors")
    made = loaded(file)
    before = predict(made)
    assert torch.equal(predict(place_transformer(made, torch.device("cpu"), LoadOptions(**options))), before)


def test_products_are_exact_where_a_file_asks_for_it(native: State, tmp_path: Path) -> None:
    for kind, exact in (("fp8 scaled, scale_weight", False), ("fp8 scaled, exact", True),
                        ("fp8 scaled, hints", False), ("fp8 scaled, exact hints", True),
                        ("NVFP4, ComfyUI", False), ("NVFP4, ComfyUI, no input scale", True)):  # fmt: skip
        made = loaded(write(SPELLINGS[kind][0](native), tmp_path / "flux.safetensors"))
        assert type(made.transformer_blocks[0].attn.to_q).__name__.startswith("Exact") == exact, kind


def test_diffusers_naming_in_one_file(plain: FluxTransformer2DModel, tmp_path: Path) -> None:
    save_file(plain.state_dict(), tmp_path / "flux.safetensors")
    assert torch.equal(predict(loaded(tmp_path / "flux.safetensors")), predict(plain))


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


@pytest.mark.parametrize("kind", ["fp8 scaled, hints", "NVFP4, ComfyUI", "NF4", "GGUF"])
def test_a_quantized_fill_becomes_ace(kind: str, tmp_path: Path) -> None:
    """Behind a wider input, with the same quantized layers in memory."""
    fill = FluxTransformer2DModel.from_config(transformer_config(384))
    native = state_dict.diffusers_to_native({n: t.detach() for n, t in fill.state_dict().items()})
    if kind == "GGUF":
        file, _ = write_gguf(native, "Q8_0", tmp_path / "fill.gguf")
    else:
        file = write(SPELLINGS[kind][0](native), tmp_path / "fill.safetensors")
    made = loaded(file)
    wide = widen_transformer(made, 448)
    tokens = torch.randn(1, 12, 384)
    padded = torch.cat([tokens[..., :128], torch.zeros(1, 12, 64), tokens[..., 128:]], -1)
    layers = made.x_embedder(tokens), wide.x_embedder(padded)
    assert torch.allclose(*layers, atol=1e-5)
    assert wide.transformer_blocks[0].ff.net[2].weight is made.transformer_blocks[0].ff.net[2].weight


def test_loras_run_over_quantized_weights(native: State, random_flux: Any, tmp_path: Path) -> None:
    """An adapter's own numbers stay what they were, whatever the weights under it are stored as."""
    for kind in ("fp8 scaled, hints", "NVFP4, ComfyUI", "NF4", "GGUF"):
        if kind == "GGUF":
            file, _ = write_gguf(native, "Q8_0", tmp_path / "flux.gguf")
        else:
            file = write(SPELLINGS[kind][0](native), tmp_path / "flux.safetensors")
        made = loaded(file)
        before = predict(made)
        adapters.attach(made, LoraOptions(rank=2, targets=("attn.to_q", "ff.net.2")), "one")
        layer = made.transformer_blocks[0].attn.to_q
        torch.nn.init.normal_(layer.lora_B["one"].weight)
        assert layer.lora_A["one"].weight.dtype == torch.float32
        assert len(layer.lora_A["one"].weight.unique()) > 100, kind
        assert apart(predict(made), before) > 1e-3


REFUSED: dict[str, tuple[Callable[[State], Written], str]] = {
    "other format": (
        lambda s: comfy_hints(s, format="mxfp8"),
        "double_blocks.0.img_attn.proj is stored as ComfyUI's mxfp8, .* take the file in",
    ),
    "other hint": (lambda s: comfy_hints(s, convrot=True), "asks for convrot, which is unknown; take"),
    "no scale": (lambda s: without(comfy_hints(s), ".weight_scale"), "no weight_scale, without which"),
    "two scales": (lambda s: twice(comfy_hints(s)), "both weight_scale and scale_weight"),
    "scales of blocks": (lambda s: blockwise(comfy_hints(s)), r"scales of shape \(2, 2\)"),
    "no second scale": (lambda s: without(nvfp4(s, comfyui=True), ".weight_scale_2"), "no weight_scale_2"),
    "tiles missing": (lambda s: cut(nvfp4(s, comfyui=True)), "block scales, not"),
    "layer of nowhere": (
        lambda s: (s, {"_quantization_metadata": '{"layers": {"x": "nvfp4"}}'}),
        "names x, which is not",
    ),
    "damaged header": (
        lambda s: (s, {"_quantization_metadata": "{"}),
        "_quantization_metadata cannot be read",
    ),
    "statistics missing": (lambda s: without(four_bits(s), ".weight.absmax"), "download the file again"),
}


def without(written: Written, end: str) -> Written:
    return {name: tensor for name, tensor in written[0].items() if not name.endswith(end)}, written[1]


def twice(written: Written) -> Written:
    more = {
        n.replace(".weight_scale", ".scale_weight"): t.clone() for n, t in written[0].items() if "_scale" in n
    }
    return written[0] | more, written[1]


def blockwise(written: Written) -> Written:
    return {n: torch.ones(2, 2) if n.endswith("_scale") else t for n, t in written[0].items()}, written[1]


def cut(written: Written) -> Written:
    return {n: t[:64] if n.endswith("weight_scale") else t for n, t in written[0].items()}, written[1]


def test_tensors_twice_are_refused(native: State, tmp_path: Path) -> None:
    twofold = native | {f"{key_map.COMFYUI_PREFIX}img_in.bias": native["img_in.bias"].clone()}
    with pytest.raises(EditkitError, match=r"some tensors twice, with and without model\.diff"):
        loaded(write((twofold, {}), tmp_path / "flux.safetensors"))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_understood_is_named(case: str, native: State, tmp_path: Path) -> None:
    make, words = REFUSED[case]
    with pytest.raises(EditkitError, match=words):
        loaded(write(make(native), tmp_path / "flux.safetensors"))


def test_damaged_and_foreign_files_are_named(wide_native: State, native: State, tmp_path: Path) -> None:
    file, _ = write_gguf(wide_native, "Q8_0", tmp_path / "flux.gguf")
    whole = file.read_bytes()
    for length in (3, 100, len(whole) // 2):
        file.write_bytes(whole[:length])
        with pytest.raises(
            EditkitError, match=r"flux.gguf is truncated or is not a GGUF file .*; download it again"
        ):
            loaded(file)
    file.unlink()
    writer = gguf.GGUFWriter(file, "flux")
    writer.add_tensor("img_in.weight", np.zeros((4, 50), np.uint8), raw_dtype=gguf.GGMLQuantizationType.IQ1_S)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(EditkitError, match="GGUF's type IQ1_S, which diffusers cannot read; take a file of"):
        loaded(file)
    packed = write(comfy_hints(native), tmp_path / "packed.safetensors")
    with pytest.raises(EditkitError, match="quantized already; leave the option quantization out"):
        loaded(packed, quantization={"type": "BitsAndBytesConfig", "load_in_4bit": True})


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


def test_quantized_weights_carry_a_lora_and_do_not_train_themselves(
    native: State, random_pipeline: Path, tmp_path: Path
) -> None:
    file = write(comfy_hints(native), tmp_path / "flux.safetensors")
    told: dict[str, Any] = {"backbone": str(random_pipeline), "data": {"count": 2}, "cache": str(tmp_path)}
    told |= {"load": {"transformer": str(file), "axes": AXES}, "lora": {"rank": 2}}
    with pytest.raises(EditkitError, match="Quantized weights cannot train; take others, or trainable=lora"):
        EditJob(config.build(EditTrainConfig, told | {"trainable": "full"}))
    settings = config.build(
        EditTrainConfig, told | {"trainable": "lora", "fit": {"steps": 1, "output": str(tmp_path / "run")}}
    )
    job = EditJob(settings)
    fit(job, settings.fit)
    assert job.backbone.transformer("kontext").transformer_blocks[0].attn.to_q.lora_B["default"].weight.any()


# --- The page's tables ---

PAGE = (ROOT / "docs" / "guides" / "weight-files.md").read_text()
ROWS = {
    "fp8 without scales": "fp8 plain",
    "fp8 with `scale_weight`": "fp8 scaled, scale_weight",
    "fp8 with `weight_scale`": "fp8 scaled, hints",
    "fp8 with a scale for each row": "fp8 by rows",
    "NVFP4 of ComfyUI, of Black Forest Labs' FLUX.1 too": "NVFP4, ComfyUI",
    "NVFP4 as diffusers' quantizer has it": "NVFP4, BFL",
    "NF4 and FP4 of bitsandbytes": "NF4",
}
"""Formats on the page, and the spelling that is tried for each; the others have tests of their own."""
OWN_TESTS = {"safetensors, bf16, fp16 or fp32", "GGUF", "folder of diffusers or transformers"}


def rows(first: str) -> list[list[str]]:
    found = re.search(rf"^\| {first} \|.*\n\|[- |]+\n((?:\|.*\n)*)", PAGE, re.MULTILINE)
    assert found
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def test_every_row_of_the_page_is_tried() -> None:
    assert {row[0] for row in rows("format")} == ROWS.keys() | OWN_TESTS


@pytest.mark.parametrize("row", [row for row in rows("format") if row[0] in ROWS], ids=lambda row: row[0])
def test_a_row_of_the_page(row: list[str], native: State, tmp_path: Path) -> None:
    """The tensors that the page names are there, and memory is as it says."""
    name, _, known_by, memory = row
    state, header = SPELLINGS[ROWS[name]][0](native)
    ends = {key.rpartition(".")[2] for key in state} | {key.partition(".weight.")[2] for key in state}
    for word in re.findall(r"`([\w.]+)`", known_by.partition(", or")[0].partition(" or ")[0]):
        assert word in ends, word
    if "no hint" in known_by:
        assert "comfy_quant" not in ends
    made = loaded(write((state, header), tmp_path / "flux.safetensors"))
    kinds = {parameter.dtype for parameter in made.transformer_blocks.parameters()}
    assert (kinds == {torch.float32}) == (memory == "in the run's dtype")


def test_types_of_gguf_on_the_page() -> None:
    told = {kind for kinds, loads in rows("type of GGUF") if loads == "yes" for kind in kinds.split(", ")}
    assert told == {*GGUF, "F32"}
