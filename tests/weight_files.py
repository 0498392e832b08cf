"""Writes small weight files in the formats that people hold, from a network's own tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from backbones.conversion import key_map

State = dict[str, Tensor]
Written = tuple[State, dict[str, str]]
"""A file's tensors and its header's entries."""


def is_packed(name: str, tensor: Tensor) -> bool:
    """Whether published files have this tensor quantized: the matrices of the blocks."""
    return "blocks." in name and tensor.ndim == 2 and name.endswith(".weight")


def fp8(state: State) -> Written:
    return {name: tensor.to(torch.float8_e4m3fn) for name, tensor in state.items()}, {}


def scaled(tensor: Tensor, dtype: torch.dtype = torch.float8_e4m3fn) -> tuple[Tensor, Tensor]:
    scale = tensor.abs().max() / torch.finfo(dtype).max
    return (tensor / scale).to(dtype), scale


def comfy_first(state: State, marker: int = 0) -> Written:
    """`scale_weight` beside weights, and one tensor for the whole file; two values ask for exact products."""
    made = {"scaled_fp8": torch.zeros(marker, dtype=torch.float8_e4m3fn)}
    for name, tensor in state.items():
        made[name] = tensor
        if is_packed(name, tensor):
            made[name], made[name.replace(".weight", ".scale_weight")] = scaled(tensor)
            made[name.replace(".weight", ".scale_input")] = torch.tensor(1.0)
    return made, {}


def comfy_hints(state: State, dtype: torch.dtype = torch.float8_e4m3fn, **more: Any) -> Written:
    """`weight_scale` beside weights, and a hint of JSON in bytes for each."""
    made = {}
    hint = {"format": str(dtype).removeprefix("torch."), **more}
    for name, tensor in state.items():
        made[name] = tensor
        if is_packed(name, tensor):
            made[name], made[name.replace(".weight", ".weight_scale")] = scaled(tensor, dtype)
            made[name.replace(".weight", ".comfy_quant")] = in_bytes(hint)
    return made, {}


def comfy_header(state: State) -> Written:
    """The same with all hints in the header."""
    made, _ = comfy_hints(state)
    modules = [name.removesuffix(".comfy_quant") for name in made if name.endswith(".comfy_quant")]
    layers = {module: {"format": "float8_e4m3fn"} for module in modules}
    told = json.dumps({"format_version": "1.0", "layers": layers})
    kept = {name: tensor for name, tensor in made.items() if not name.endswith(".comfy_quant")}
    return kept, {"_quantization_metadata": told}


def in_bytes(hint: dict[str, Any]) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(hint).encode()), dtype=torch.uint8)


def by_rows(state: State) -> Written:
    """A scale for each row and no hint, which diffusers calls fp8r."""
    made = {}
    for name, tensor in state.items():
        made[name] = tensor
        if is_packed(name, tensor):
            scales = tensor.abs().amax(1) / 448
            made[name] = (tensor / scales[:, None]).to(torch.float8_e4m3fn)
            made[name.replace(".weight", ".weight_scale")] = scales
    return made, {}


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def nvfp4_codes(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """4-bit codes (rows, columns), block scales (rows, columns / 16) and the scale of all."""
    whole = tensor.abs().max() / (448 * 6)
    blocks = tensor.reshape(len(tensor), -1, 16)
    scales = (blocks.abs().amax(-1) / 6 / whole).to(torch.float8_e4m3fn)
    values = blocks / (scales.float() * whole).clamp(min=1e-12)[..., None]
    nearest = (values.abs()[..., None] - E2M1).abs().argmin(-1)
    codes = (nearest + 8 * (values < 0)).to(torch.uint8).reshape(tensor.shape)
    return codes, scales, whole


def tiles(scales: Tensor) -> Tensor:
    """cuBLAS' order of block scales, by its documentation's formula."""
    rows, columns = scales.shape
    down, across = -(-rows // 128), -(-columns // 4)
    flat = torch.zeros(down * across * 512, dtype=torch.uint8)
    for row in range(rows):
        for column in range(columns):
            tile = (row // 128 * across + column // 4) * 512
            inside = row % 128 % 32 * 16 + row % 128 // 32 * 4 + column % 4
            flat[tile + inside] = scales[row, column].view(torch.uint8)
    return flat.view(torch.float8_e4m3fn).reshape(down * 128, across * 4)


def nvfp4(state: State, *, comfyui: bool, calibrated: bool = True) -> Written:
    made = {}
    for name, tensor in state.items():
        made[name] = tensor
        if not is_packed(name, tensor):
            continue
        codes, scales, whole = nvfp4_codes(tensor)
        even, odd = codes[:, ::2], codes[:, 1::2]
        stem = name.removesuffix(".weight")
        made[name] = (even << 4 | odd) if comfyui else (even | odd << 4)
        made[f"{stem}.weight_scale"] = tiles(scales) if comfyui else scales
        made[f"{stem}.weight_scale_2"] = whole
        if calibrated:
            made[f"{stem}.input_scale"] = torch.tensor(0.01)
        if comfyui:
            made[f"{stem}.comfy_quant"] = in_bytes({"format": "nvfp4"})
    return made, {}


def four_bits(state: State, kind: str = "nf4", nested: bool = False) -> Written:
    from bitsandbytes.functional import quantize_4bit

    made = {}
    for name, tensor in state.items():
        made[name] = tensor
        if is_packed(name, tensor):
            made[name], stats = quantize_4bit(tensor, quant_type=kind, compress_statistics=nested)
            made |= {f"{name}.{key}": value for key, value in stats.as_dict(packed=True).items()}
    return made, {}


def prefixed(written: Written) -> Written:
    state, header = written
    return {key_map.COMFYUI_PREFIX + name: tensor for name, tensor in state.items()}, header


SPELLINGS: dict[str, tuple[Callable[[State], Written], float]] = {
    "fp8 plain": (fp8, 0.08),
    "fp8 scaled, scale_weight": (comfy_first, 0.08),
    "fp8 scaled, exact": (lambda state: comfy_first(state, marker=2), 0.08),
    "fp8 scaled, hints": (comfy_hints, 0.08),
    "fp8 scaled, exact hints": (lambda s: comfy_hints(s, full_precision_matrix_mult=True), 0.08),
    "fp8 scaled, e5m2": (lambda state: comfy_hints(state, torch.float8_e5m2), 0.16),
    "fp8 scaled, header": (comfy_header, 0.08),
    "fp8 scaled, header and prefix": (lambda s: prefixed(comfy_header(s)), 0.08),
    "fp8 scaled, prefix": (lambda s: prefixed(comfy_first(s)), 0.08),
    "fp8 by rows": (by_rows, 0.08),
    "NVFP4, ComfyUI": (lambda state: nvfp4(state, comfyui=True), 0.3),
    "NVFP4, ComfyUI, no input scale": (lambda s: nvfp4(s, comfyui=True, calibrated=False), 0.3),
    "NVFP4, BFL": (lambda state: nvfp4(state, comfyui=False), 0.3),
    "NF4": (four_bits, 0.3),
    "NF4, double": (lambda state: four_bits(state, nested=True), 0.3),
    "FP4": (lambda state: four_bits(state, "fp4"), 0.4),
}
"""Each with what the network's prediction may differ by, relative."""
STAY_SMALL = [name for name in SPELLINGS if name not in ("fp8 plain", "fp8 scaled, e5m2")]


def write(written: Written, file: Path) -> Path:
    state, header = written
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file, metadata=header or None)
    return file


def bytes_of(kind: gguf.GGMLQuantizationType, tensor: Tensor) -> np.ndarray:
    """Blocks of a type: quantized where gguf's Python can, else any that the type allows."""
    values = tensor.float().numpy()
    try:
        return gguf.quants.quantize(values, kind)
    except NotImplementedError:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        drawn = np.random.default_rng(0).integers(
            0, 256, (len(values), values.shape[1] // block, size), np.uint8
        )
        small = np.frombuffer(np.float16(2e-4).tobytes(), np.uint8)
        for place in HALVES[kind.name]:
            drawn[..., place : place + 2] = small
        return drawn.reshape(len(values), -1)


HALVES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
          "IQ4_NL": (0,), "IQ4_XS": (0,)}  # fmt: skip
"""Places of a block's scales in fp16."""


def write_gguf(state: State, kind: str, file: Path, arch: str = "flux") -> tuple[Path, State]:
    """A file with the blocks' matrices in a type, and what gguf's own reading of them gives."""
    writer, expected = gguf.GGUFWriter(file, arch), {}
    for name, tensor in state.items():
        chosen = gguf.GGMLQuantizationType[kind]
        if not is_packed(name, tensor):
            writer.add_tensor(name, tensor.float().numpy())
            expected[name] = tensor.float()
            continue
        data = bytes_of(chosen, tensor)
        writer.add_tensor(name, data, raw_dtype=chosen)
        expected[name] = torch.from_numpy(gguf.quants.dequantize(data, chosen)).float()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, expected
