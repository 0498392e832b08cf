"""Dialects: the same update of every weight in each of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
from torch import nn

from backbones.conversion import state_dict
from backbones.lora import dialect_reader, dialect_writer, fused_modules, keys, summary
from backbones.lora.low_rank import LowRankUpdate
from editkit.adapters import METADATA
from editkit.backbone import AdapterSignature, ExpertsSummary
from editkit.errors import EditkitError
from tests.backbones.lora.updates import RANK, SHAPES, close, deltas, drawn, identical
from tests.released_adapters import ace, released

PAIRS = [(one, other) for one in keys.DIALECTS for other in keys.DIALECTS]


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [4, 3])
def test_every_pair_keeps_the_update(
    flux: nn.Module, source: str, target: str, shape: str, alpha: float
) -> None:
    """Through one dialect to another and from there to diffusers'."""
    updates = SHAPES[shape](drawn(flux, alpha))
    state, about = dialect_writer.to_dialect(updates, source)
    assert dialect_reader.detect_dialect(state) == source
    first = dialect_reader.read_lora(state, about)
    again, told = dialect_writer.to_dialect(first.updates, target)
    assert dialect_reader.detect_dialect(again) == target
    final = dialect_reader.read_in_diffusers_names(again, told)
    assert not first.unplaced
    assert not final.unplaced
    close(deltas(final.updates), deltas(updates))


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("shape", ["own", "shared"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_is_exact_to_the_bit(
    flux: nn.Module, source: str, target: str, shape: str, dtype: torch.dtype
) -> None:
    state, about = dialect_writer.to_dialect(SHAPES[shape](drawn(flux, RANK, dtype)), source)
    there, told = dialect_writer.to_dialect(dialect_reader.read_lora(state, about).updates, target)
    back, said = dialect_writer.to_dialect(dialect_reader.read_lora(there, told).updates, source)
    identical(back, state)
    assert said == about


def test_alpha_is_kept_where_a_dialect_has_a_place_for_it(flux: nn.Module) -> None:
    updates = drawn(flux, alpha=3)
    ours, about = dialect_writer.to_dialect(updates, "diffusers")
    theirs, _ = dialect_writer.to_dialect(updates, "kohya")
    identical(
        {
            k: t
            for k, t in dialect_writer.to_dialect(dialect_reader.read_lora(theirs).updates, "diffusers")[
                0
            ].items()
        },
        ours,
    )
    assert json.loads(about["lora_adapter_metadata"])["transformer.lora_alpha"] == 3
    assert float(theirs["lora_unet_img_in.alpha"]) == 3
    assert float(theirs["lora_unet_single_blocks_1_linear1.alpha"]) == 12  # of rank 16
    native, _ = dialect_writer.to_dialect(updates, "bfl")
    assert not any("alpha" in key for key in native)
    assert dialect_writer.to_dialect(drawn(flux), "diffusers")[1] == {}


@pytest.mark.parametrize(("shape", "ranks"), [("shared", (RANK, RANK)), ("own", (3 * RANK, 4 * RANK))])
def test_ranks_of_fused_modules(flux: nn.Module, shape: str, ranks: tuple[int, int]) -> None:
    joint = fused_modules.join(SHAPES[shape](drawn(flux)))
    assert joint["double_blocks.0.txt_attn.qkv"].rank == ranks[0]
    assert joint["single_blocks.1.linear1"].rank == ranks[1]
    assert joint["single_blocks.1.linear2"].rank == RANK


@pytest.mark.parametrize(("config", "scale"), [({"use_rslora": True}, 8 / RANK**0.5), ({}, 8 / RANK)])
def test_metadata_of_peft_are_understood(flux: nn.Module, config: dict[str, Any], scale: float) -> None:
    state, _ = dialect_writer.to_dialect(drawn(flux), "diffusers")
    config = {"r": RANK, "lora_alpha": 8, "alpha_pattern": {"to_q": 2}} | config
    about = {METADATA: json.dumps({f"transformer.{key}": value for key, value in config.items()})}
    updates = dialect_reader.read_in_diffusers_names(state, about).updates
    assert updates["x_embedder"].scale == pytest.approx(scale)
    assert updates["transformer_blocks.0.attn.to_q"].scale == pytest.approx(scale / 4)


@pytest.mark.parametrize("target", keys.DIALECTS[1:])
def test_native_names_mean_native_weights(flux: FluxTransformer2DModel, target: str) -> None:
    """Added to a native checkpoint, it gives the model that the LoRA gives in diffusers' layout."""
    updates = drawn(flux, alpha=2)
    weights = {name: tensor.double() for name, tensor in flux.state_dict().items()}
    merged = dict(weights)
    for name, delta in deltas(updates).items():
        merged[f"{name}.weight"] = weights[f"{name}.weight"] + delta
    native = state_dict.diffusers_to_native(weights)
    added = 0
    for name, delta in deltas(
        dialect_reader.read_lora(dialect_writer.to_dialect(updates, target)[0]).updates
    ).items():
        native[f"{name}.weight"] = native[f"{name}.weight"] + delta
        added += 1
    assert added == sum(name.endswith(".weight") for name in native)
    close(state_dict.native_to_diffusers(native), merged)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "base_model.model.", "diffusion_model."])
def test_other_spellings(flux: nn.Module, prefix: str) -> None:
    updates = drawn(flux)
    native, _ = dialect_writer.to_dialect(updates, "bfl")
    close(
        deltas(dialect_reader.read_in_diffusers_names({prefix + k: t for k, t in native.items()}).updates),
        deltas(updates),
    )
    named, _ = dialect_writer.to_dialect(updates, "diffusers")
    bare = {key.removeprefix("transformer."): tensor for key, tensor in named.items()}
    close(deltas(dialect_reader.read_in_diffusers_names(bare).updates), deltas(updates))
    flat = {}
    for key, tensor in bare.items():
        stem, matrix = key.rsplit(".lora_", 1)
        end = {"A.weight": "down", "B.weight": "up"}[matrix]
        flat[f"lora_transformer_{stem.replace('.', '_')}.lora_{end}.weight"] = tensor
    assert dialect_reader.detect_dialect(flat) == "kohya"
    close(deltas(dialect_reader.read_in_diffusers_names(flat).updates), deltas(updates))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("alpha", [RANK, 6])
def test_diffusers_own_reader_of_kohya_agrees(dense: bool, alpha: float) -> None:
    """It cuts rows at a width of 3072, and loses modules outside blocks: those are left to other tests."""
    torch.manual_seed(0)
    state = {}
    for native, parts in fused_modules.module_map(1, 2).items():
        if "blocks" in native:
            rows, stem = 3072 * sum(fused_modules.row_shares(parts)), "lora_unet_" + native.replace(".", "_")
            rank = RANK * len(parts)
            up = torch.randn(rows, rank)
            if not dense and len(parts) > 1:
                units = torch.tensor(fused_modules.row_shares(parts))
                of_row = torch.arange(len(parts)).repeat_interleave(units * 3072)
                up *= of_row[:, None] == torch.arange(len(parts)).repeat_interleave(RANK)
            state |= {f"{stem}.lora_down.weight": torch.randn(rank, 8), f"{stem}.lora_up.weight": up}
            state[f"{stem}.alpha"] = torch.tensor(float(alpha * len(parts)))
    theirs = _convert_kohya_flux_lora_to_diffusers(dict(state))
    updates = dialect_reader.read_in_diffusers_names(state).updates
    ours, _ = dialect_writer.to_dialect(updates, "diffusers")
    assert ours.keys() == theirs.keys()
    if alpha == RANK:
        identical(ours, theirs)
    close(deltas(updates), deltas(dialect_reader.read_lora(theirs).updates))


def test_released_files_are_placed_whole(full: FluxTransformer2DModel) -> None:
    linear = {
        name: (module.out_features, module.in_features)
        for name, module in full.named_modules()
        if isinstance(module, nn.Linear)
    }
    normal, kohya = released(full, 32, device="meta"), ace(64)
    assert (len(normal), len(kohya)) == (686, 912)
    assert sum(tensor.numel() for key, tensor in kohya.items() if "alpha" not in key) == 306_315_264
    for state, count, spoken in ((normal, 343, "diffusers"), (kohya, 494, "kohya")):
        found = dialect_reader.read_in_diffusers_names(state)
        assert (found.dialect, found.unplaced, len(found.updates)) == (spoken, (), count)
        for name, update in found.updates.items():
            assert (len(update.up_Or), update.down_rI.shape[1]) == linear[name]
        for target in keys.DIALECTS:
            there, about = dialect_writer.to_dialect(dialect_reader.read_lora(state).updates, target)
            assert len(dialect_reader.read_in_diffusers_names(there, about).updates) >= count
    back, _ = dialect_writer.to_dialect(dialect_reader.read_in_diffusers_names(normal).updates, "diffusers")
    assert {key: t.shape for key, t in back.items()} == {key: t.shape for key, t in normal.items()}


SIGNATURES = {
    "deep": AdapterSignature(channels=(384, 448)),
    "moe": AdapterSignature(routing="moe_routing", channels=(384,)),
    "named": AdapterSignature(channels=(64,), architecture="named"),
}
"""Of methods that there are not."""


def test_summaries_at_full_size(full: FluxTransformer2DModel) -> None:
    linears = sum(isinstance(module, nn.Linear) for module in full.modules())
    normal = summary.inspect(released(full, 32, device="meta"), {}, SIGNATURES)
    assert (normal.method, normal.width, normal.x_embedder) == ("moe or deep", 3072, 384)
    assert (normal.modules, normal.possible, normal.ranks) == (343, linears, {32: 343})
    assert normal.kinds["single_transformer_blocks.*.proj_mlp"] == 38
    moe = summary.inspect(released(full, 32, experts=4, device="meta"), {}, SIGNATURES)
    assert moe.experts == ExpertsSummary(
        modules=57, number=4, rank=32, top_k=1, router="released", alpha=32.0
    )
    assert (moe.method, moe.modules, len(moe.unplaced)) == ("moe", 286, 456 + 57)
    plus, few = summary.inspect(ace(16), {}, SIGNATURES), ace(16, blocks=(1, 1))
    named = summary.inspect(few, {"modelspec.architecture": "flux-1-named/lora"}, SIGNATURES)
    assert named.method == "named"
    assert summary.inspect(few, {"moe_routing": "{}"}, SIGNATURES).method == "moe"
    assert (plus.dialect, plus.method, plus.x_embedder) == ("kohya", "unknown", None)
    assert (plus.width, plus.modules, plus.ranks) == (3072, 494, {16: 494})


def test_from_diffusers_refuses_what_is_not_flux() -> None:
    update = LowRankUpdate(down_rI=torch.ones(1, 2), up_Or=torch.ones(2, 1), alpha=1)
    with pytest.raises(EditkitError, match="not a linear module of FLUX"):
        dialect_writer.to_dialect({"mid_block": update}, "kohya")
    with pytest.raises(EditkitError, match="two updates"):
        dialect_writer.to_dialect({"img_in": update, "x_embedder": update}, "bfl")
    with pytest.raises(EditkitError, match="two updates"):
        dialect_writer.to_dialect({"img_in": update, "x_embedder": update}, "diffusers")
