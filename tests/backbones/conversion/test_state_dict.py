"""The key map at official sizes, and bit-exact round trips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import save_file

from backbones import widening
from backbones.conversion import architecture, key_map, state_dict
from editkit.errors import EditkitError
from tests.backbones.conversion.native_shapes import (
    AXES,
    FULL,
    TINY,
    native_shapes,
    random_state,
    same,
    tiny_model,
)

OFFICIAL: dict[str, dict[str, Any]] = {
    "kontext": {"in_channels": 64, "guidance_embeds": True},
    "fill": {"in_channels": 384, "guidance_embeds": True},
    "schnell": {"in_channels": 64, "guidance_embeds": False},
}


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
    assert architecture.infer_config(native) == config


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
    prefixed = {key_map.COMFYUI_PREFIX + name: tensor for name, tensor in native.items()}
    assert same(state_dict.native_to_diffusers(prefixed), state_dict.native_to_diffusers(native))
    assert architecture.infer_config(prefixed, AXES) == TINY
    with pytest.raises(EditkitError, match="twice"):
        state_dict.native_to_diffusers(prefixed | native)


def test_axes_are_given_where_heads_are_not_128_wide() -> None:
    native = random_state(native_shapes(TINY))
    assert architecture.infer_config(native, AXES) == TINY
    with pytest.raises(EditkitError, match=r"16 dimensions do not determine the RoPE axes.* --axes"):
        architecture.infer_config(native)
    for axes in ((4, 6, 4), (5, 5, 6), (8, 8), (0, 8, 8), ()):
        with pytest.raises(EditkitError, match=r"do not fit.* sum to 16 in --axes or --load axes"):
            architecture.infer_config(native, axes)


def test_fill_widens_to_ace_with_its_mask_moved() -> None:
    fill_DC = torch.randn(6, 384)
    ace_DC = widening.widen_input(fill_DC, 448, widening.FILL_TO_ACE)
    assert torch.equal(ace_DC[:, :128], fill_DC[:, :128])
    assert not ace_DC[:, 128:192].any()
    assert torch.equal(ace_DC[:, 192:], fill_DC[:, 128:])
    wide_DC = widening.widen_input(torch.ones(6, 64, dtype=torch.bfloat16, device="meta"), 384, range(64))
    assert (wide_DC.shape, wide_DC.dtype) == ((6, 384), torch.bfloat16)
    for columns in (range(63), [0] * 64, range(1, 385), range(-1, 63)):
        with pytest.raises(EditkitError, match="column of its own"):
            widening.widen_input(torch.ones(6, 64), 128 if len(columns) == 64 else 64, columns)


def test_join_needs_alike_parts() -> None:
    state = state_dict.native_to_diffusers(random_state(native_shapes(TINY)))
    key = "transformer_blocks.0.attn.to_k.weight"
    with pytest.raises(EditkitError, match="differ in dtype"):
        state_dict.diffusers_to_native(state | {key: state[key].float()})
    with pytest.raises(EditkitError, match="not 32 rows"):
        state_dict.diffusers_to_native(state | {key: state[key][:-1]})
