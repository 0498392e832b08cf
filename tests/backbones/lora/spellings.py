"""Spellings of one adapter's keys, as the programs that train adapters write them."""

from __future__ import annotations

import torch

from backbones.lora import fused_modules
from tests.backbones.lora.effects import DOWN_UP, Spell, flat, renamed, written
from tests.backbones.lora.updates import State, Updates

ALPHA = 6.0


def dotted_alpha(updates: Updates) -> State:
    state = renamed("transformer.", *DOWN_UP)(updates)
    return state | {f"transformer.{name}.alpha": torch.tensor(u.alpha) for name, u in updates.items()}


def beside(updates: Updates) -> State:
    """kohya's naming with text encoders and changes that are all zero beside it."""
    return written("kohya")(updates) | {
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(1, 1),
        "lora_unet_double_blocks_0_img_attn_norm_key_norm.diff": torch.zeros(4),
        "lora_unet_img_in.diff_b": torch.zeros(4),
    }


def numbered(updates: Updates) -> State:
    """Native names; parts of fused modules have numbers, and each its own matrices."""
    state = {}
    for native, parts in fused_modules.module_map(1, 2).items():
        for number, part in enumerate(parts):
            name = f"{native}.{number}" if len(parts) > 1 else native.replace("img_in", "img_in.proj")
            up = updates[part].up_Or
            up = torch.cat(up.chunk(2)[::-1]) if native in fused_modules.SWAPPED else up
            state |= {
                f"transformer.{name}.lora_down.weight": updates[part].down_rI,
                f"transformer.{name}.lora_up.weight": up,
                f"transformer.{name}.alpha": torch.tensor(updates[part].alpha),
            }
    return state | {"t5.encoder.block.0.layer.0.SelfAttention.q.lora_down.weight": torch.ones(1, 1)}


# Each row of the table in docs/guides/lora-files.md: how it is spelled, and whether it has a place for alpha.
SPELLINGS: dict[str, tuple[Spell, bool]] = {
    "`transformer.`, diffusers' names": (renamed("transformer."), False),
    "diffusers' names alone": (renamed(""), False),
    "`base_model.model.`, diffusers' names": (renamed("base_model.model."), False),
    "`transformer.base_model.model.`, diffusers' names": (renamed("transformer.base_model.model."), False),
    "`diffusion_model.`, diffusers' names": (renamed("diffusion_model."), False),
    "`lora_unet_`, diffusers' names": (flat("lora_unet_"), True),
    "`lora_transformer_`, diffusers' names": (flat("lora_transformer_"), True),
    "`lycoris_`, diffusers' names": (flat("lycoris_"), True),
    "`transformer.`, `lora_down` and `lora_up`": (renamed("transformer.", *DOWN_UP), False),
    "`transformer.`, `lora_down` and `lora_up`, `alpha`": (dotted_alpha, True),
    "`lora_A.default.weight`": (
        renamed("", ("lora_A.", "lora_A.default."), ("lora_B.", "lora_B.default.")),
        False,
    ),
    "`lora_A` without `.weight`": (renamed("transformer.", (".weight", "")), False),
    "`lora.down.weight`": (renamed("transformer.", ("lora_A", "lora.down"), ("lora_B", "lora.up")), False),
    "`lora_unet_`, native names": (written("kohya"), True),
    "`diffusion_model.`, native names": (written("comfyui"), True),
    "`model.diffusion_model.`, native names": (written("bfl", "model.diffusion_model."), False),
    "native names alone": (written("bfl"), False),
    "`transformer.`, native names": (written("bfl", "transformer."), False),
    "`base_model.model.`, native names": (written("bfl", "base_model.model."), False),
    "`transformer.`, native names, fused parts numbered": (numbered, True),
    "zero `diff` and `diff_b` beside it": (beside, True),
}
