"""State dicts in the layouts of released adapters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from methods.icedit import moe_options

EXPERTS, RANK = 4, 3

FULL = {
    "in_channels": 384, "out_channels": 64, "num_layers": 19, "num_single_layers": 38,
    "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": [16, 56, 56],
}  # fmt: skip


def drawn_on(device: str) -> Callable[..., Tensor]:
    """Random matrices that keep a signal's size; on meta, where random functions are slow, empty ones."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        if device == "meta":
            return torch.empty(shape, device=device)
        return torch.randn(shape, generator=generator, device=device) / shape[-1] ** 0.5

    return draw


def released(
    transformer: nn.Module, rank: int, *, experts: int = 0, device: str = "cpu"
) -> dict[str, Tensor]:
    """A state dict in the layout of the released files: plain LoRA on all modules, or experts on some."""
    draw, state = drawn_on(device), {}
    for name, module in transformer.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        key, inside = f"transformer.{name}", "blocks." in name
        inputs, outputs = module.in_features, module.out_features
        if inside and name.endswith((".ff.net.2", ".proj_out")) and experts:
            state |= {f"{key}.lora_A.expert_{e}.weight": draw(rank, inputs) for e in range(experts)}
            state |= {f"{key}.lora_B.expert_{e}.weight": draw(outputs, rank) for e in range(experts)}
            state[f"{key}.lora_route.weight"] = draw(experts, inputs)
        elif name == "x_embedder" or (
            inside and name.endswith(tuple(f".{end}" for end in (*moe_options.PLAIN, "ff.net.2", "proj_out")))
        ):
            state |= {f"{key}.lora_A.weight": draw(rank, inputs), f"{key}.lora_B.weight": draw(outputs, rank)}
    return state


def ace(
    rank: int, *, width: int = 3072, blocks: tuple[int, int] = (19, 38), device: str = "meta"
) -> dict[str, Tensor]:
    """The layout of the released ACE++ LoRAs, 304 stems for the double and single blocks of FLUX.1."""
    draw, state = drawn_on(device), {}
    sizes = {
        "attn_qkv": (1, 3), "attn_proj": (1, 1), "mlp_0": (1, 4), "mlp_2": (4, 1), "mod_lin": (1, 6),
        "linear1": (1, 7), "linear2": (5, 1), "modulation_lin": (1, 3),
    }  # fmt: skip
    double, single = blocks
    names = [f"double_blocks_{i}_{s}" for i in range(double) for s in ("img", "txt")]
    names += [f"single_blocks_{i}" for i in range(single)]
    for name in names:
        for kind, (inputs, outputs) in sizes.items():
            if name.startswith("single") == (kind in ("linear1", "linear2", "modulation_lin")):
                stem = f"lora_unet_{name}_{kind}"
                state[f"{stem}.lora_down.weight"] = draw(rank, inputs * width)
                state[f"{stem}.lora_up.weight"] = draw(outputs * width, rank)
                state[f"{stem}.alpha"] = torch.full((), float(rank), device=device)
    return state
