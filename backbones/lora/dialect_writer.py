"""Write a LoRA's updates in a dialect."""

import json
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from backbones.lora import fused_modules
from backbones.lora.keys import DIALECTS, PREFIX
from backbones.lora.low_rank import LowRankUpdate
from editkit.adapters import METADATA
from editkit.errors import EditkitError

WRITTEN = {
    "kohya": ("lora_unet_", "_", "lora_down", "lora_up"),
    "bfl": ("", ".", "lora_A", "lora_B"),
    "comfyui": ("diffusion_model.", ".", "lora_down", "lora_up"),
}
"""Prefix, separator and names of both matrices, by native dialect."""


def to_dialect(updates: Mapping[str, LowRankUpdate], to: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and metadata of a file in a dialect.

    Args:
        updates: updates by diffusers' modules; native modules may be among them, and stay as they are in
            native dialects.
        to: one of `keys.DIALECTS`.

    Raises:
        EditkitError: where the dialect is unknown, or updates do not fit each other.
    """
    if to not in DIALECTS:
        raise EditkitError(f"The dialect {to!r} is unknown; give one of {', '.join(DIALECTS)}.")
    if to == "diffusers":
        return _to_diffusers(fused_modules.split(updates))
    if any(update.has_extras for update in updates.values()):
        raise EditkitError(f"A DoRA, or a LoRA with biases, cannot be written in the dialect {to!r}.")
    prefix, dot, down, up = WRITTEN[to]
    state: dict[str, Tensor] = {}
    for native, update in fused_modules.join(updates).items():
        update = update.folded() if to == "bfl" else update
        stem = prefix + native.replace(".", dot)
        state |= {f"{stem}.{down}.weight": update.down_rI, f"{stem}.{up}.weight": update.up_Or}
        state |= {} if to == "bfl" else {f"{stem}.alpha": _scalar(update)}
    return state, {}


def _to_diffusers(updates: Mapping[str, LowRankUpdate]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors, and a LoraConfig as metadata where the tensors alone do not determine it."""
    state = {}
    for module, update in updates.items():
        state[f"{PREFIX}{module}.lora_A.weight"] = update.down_rI
        state[f"{PREFIX}{module}.lora_B.weight"] = update.up_Or
        if update.bias_O is not None:
            state[f"{PREFIX}{module}.lora_B.bias"] = update.bias_O
        if update.magnitude_O is not None:
            state[f"{PREFIX}{module}.lora_magnitude_vector"] = update.magnitude_O
    (rank, _), *others = Counter(update.rank for update in updates.values()).most_common()
    if not others and all(update.alpha == rank for update in updates.values()):
        return state, {}
    (alpha, _), *_ = Counter(update.alpha for update in updates.values()).most_common()
    config = {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{name}": u.rank for name, u in updates.items() if u.rank != rank},
        "alpha_pattern": {f"^{name}": u.alpha for name, u in updates.items() if u.alpha != alpha},
        "target_modules": list(updates),
    }
    config |= {"use_dora": True} if any(u.magnitude_O is not None for u in updates.values()) else {}
    config |= {"lora_bias": True} if any(u.bias_O is not None for u in updates.values()) else {}
    about = {f"{PREFIX}{key}": value for key, value in config.items()}
    return state, {METADATA: json.dumps(about, sort_keys=True)}


def _scalar(update: LowRankUpdate) -> Tensor:
    """Return alpha in the matrices' dtype, or in float32 where that dtype cannot hold it."""
    wanted = torch.tensor(update.alpha, dtype=torch.float32)
    narrow = wanted.to(update.down_rI.dtype)
    return narrow if float(narrow) == float(wanted) else wanted
