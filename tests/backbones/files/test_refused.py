"""Behaviour: weight files that are damaged or unknown are refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from backbones.conversion import key_map
from editkit.errors import EditkitError
from tests.backbones.files.networks import loaded
from tests.weight_files import (
    State,
    Written,
    comfy_first,
    comfy_hints,
    four_bits,
    fp8,
    nvfp4,
    write,
    write_gguf,
)

REFUSED: dict[str, tuple[Callable[[State], Written], str]] = {
    "other format": (
        lambda s: comfy_hints(s, format="mxfp8"),
        "double_blocks.0.img_attn.proj is stored as ComfyUI's mxfp8, .* take the file in",
    ),
    "other hint": (lambda s: comfy_hints(s, convrot=True), "asks for convrot, which is unknown; take"),
    "no scale": (lambda s: without(comfy_hints(s), ".weight_scale"), "no weight_scale, without which"),
    "no scale and no hint": (
        lambda s: without(comfy_first(s), "double_blocks.0.img_attn.proj.scale_weight"),
        "double_blocks.0.img_attn.proj holds fp8 values that were scaled, and no scale to read them",
    ),
    "no scales at all": (lambda s: without(comfy_first(s), "scale_weight"), "and no scale to read them"),
    "two scales": (lambda s: twice(comfy_hints(s)), "both weight_scale and scale_weight"),
    "scales of blocks": (lambda s: blockwise(comfy_hints(s)), r"scales of shape \(2, 2\)"),
    "no second scale": (
        lambda s: without(nvfp4(s, comfyui=True), ".weight_scale_2"),
        "without the weight_scale_2",
    ),
    "tiles missing": (lambda s: cut(nvfp4(s, comfyui=True)), "block scales, not"),
    "layer of nowhere": (
        lambda s: (s, {"_quantization_metadata": '{"layers": {"x": "nvfp4"}}'}),
        "names x, which is not",
    ),
    "damaged header": (
        lambda s: (s, {"_quantization_metadata": "{"}),
        "_quantization_metadata cannot be read",
    ),
    "nunchaku": (
        lambda s: beside(s, "qweight", "wscales", "smooth_factor"),
        "single_blocks.0.linear1 is stored in nunchaku's SVDQuant, which is not supported; take the file in",
    ),
    "SDNQ": (lambda s: beside(s, "weight", "scale"), "linear1 is stored in SDNQ, which is not supported"),
    "SDNQ, SVD": (lambda s: beside(s, "weight", "svd_up", "svd_down"), "linear1 is stored in SDNQ"),
    "GPTQ": (lambda s: beside(s, "qweight", "qzeros", "scales"), "linear1 is stored in GPTQ or AWQ"),
    "statistics missing": (lambda s: without(four_bits(s), ".weight.absmax"), "download the file again"),
}


def beside(state: State, *words: str) -> Written:
    """One layer in integers, with tensors of these names in place of its weight."""
    layer = "single_blocks.0.linear1"
    made = {name: tensor for name, tensor in state.items() if name != f"{layer}.weight"}
    return made | {f"{layer}.{word}": torch.ones(4, 4, dtype=torch.int8) for word in words}, {}


def with_outlier(written: Written) -> Written:
    """Plain weights with one large value in each matrix."""
    made = {name: tensor.clone() for name, tensor in written[0].items()}
    for tensor in made.values():
        if tensor.ndim == 2:
            tensor[0, 0] = 300
    return made, written[1]


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


def test_single_large_values_in_plain_fp8_are_no_scaled_ones(native: State, tmp_path: Path) -> None:
    loaded(write(with_outlier(fp8(native)), tmp_path / "flux.safetensors"))
    made, header = with_outlier(fp8(native))
    made["double_blocks.0.txt_attn.proj.scale_weight"] = torch.tensor(1.0)
    with pytest.raises(EditkitError, match="holds fp8 values that were scaled"):
        loaded(write((made, header), tmp_path / "mixed.safetensors"))


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
