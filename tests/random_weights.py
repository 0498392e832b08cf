"""Small networks of random weights in which every input matters."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from tests.pictures import photo

LETTERS = "AEHKLTXZ"
WIDTH, CLIP_WIDTH, T5_WIDTH = 64, 32, 48
AUTOENCODER = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [8, 16, 16, 16],
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 4,
    "sample_size": 128,
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    # Neither is the identity, so that leaving one out shows.
    "scaling_factor": 0.36,
    "shift_factor": 0.12,
}
CLIP = {
    "hidden_size": CLIP_WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
T5 = {
    "d_model": T5_WIDTH,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 1,
    "num_heads": 3,
    "dropout_rate": 0.0,
    "feed_forward_proj": "gated-gelu",
}


def transformer_config(in_channels: int = 64) -> dict[str, object]:
    """One double and two single blocks, 64 wide; tokens are 64 wide on their way out whatever comes in."""
    return {
        "in_channels": in_channels,
        "out_channels": 64,
        "num_layers": 1,
        "num_single_layers": 2,
        "attention_head_dim": 32,
        "num_attention_heads": WIDTH // 32,
        "joint_attention_dim": T5_WIDTH,
        "pooled_projection_dim": CLIP_WIDTH,
        "guidance_embeds": True,
        "axes_dims_rope": [8, 12, 12],
    }


@torch.no_grad()
def liven(model: nn.Module) -> None:
    """Weights that keep a signal's size, rounded to bf16.

    PyTorch's own start shrinks it by 1.7 a layer: after a few, velocities would hardly depend on anything.
    Rounded, the weights in a saved folder are the ones in memory.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.normal_(std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                module.bias.normal_(std=0.1)
    for name, parameter in model.named_parameters():
        if name.endswith(
            (".norm_q.weight", ".norm_k.weight", ".norm_added_q.weight", ".norm_added_k.weight")
        ):
            parameter.fill_(1.75)  # attention that chooses, where else it would take the mean of all tokens
        parameter.copy_(parameter.bfloat16())


@torch.no_grad()
def autoencoder():
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_config(AUTOENCODER).eval()
    liven(vae)
    pixels = torch.cat([photo(128, 128, seed) for seed in range(4)]) * 2 - 1
    # Scaled latents of size 1, and pictures that fill the range of pixels without being cut off everywhere.
    mean = vae.encode(pixels).latent_dist.mean
    vae.encoder.conv_out.weight[:16] /= mean.std() * AUTOENCODER["scaling_factor"]
    decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    vae.decoder.conv_out.weight.mul_(0.4 / decoded.std())
    for parameter in vae.parameters():
        parameter.copy_(parameter.bfloat16())
    return vae.requires_grad_(False)


def quantize(transformer: Any, bits: int) -> None:
    """As diffusers' quantizer does, which refuses to without a GPU; bitsandbytes itself runs on a CPU too."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for name, linear in list(transformer.named_modules()):
        if isinstance(linear, nn.Linear) and "blocks." in name:
            kind: Any = partial(Linear4bit, compute_dtype=torch.float32, quant_type="nf4")
            if bits == 8:
                kind = partial(Linear8bitLt, has_fp16_weights=False)
            small = kind(linear.in_features, linear.out_features, linear.bias is not None)
            small.load_state_dict(linear.state_dict())
            parent, _, child = name.rpartition(".")
            setattr(transformer.get_submodule(parent), child, small.to("cpu").requires_grad_(False))
