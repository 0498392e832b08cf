"""Attention heads that copy: a random transformer begins by looking at a context picture."""

import torch
from diffusers import FluxTransformer2DModel

ROPE_THETA, COPYING_HEADS = 10_000.0, 2


@torch.no_grad()
def start_by_copying(transformer: FluxTransformer2DModel, sharpness: float) -> None:
    """Let two heads of every block begin by looking at the context picture's token in the same place.

    Their queries and keys are nearly constant, so that RoPE alone decides where they look: a key is a query
    turned back by one along the first axis. Only the fastest frequencies take part, since slow ones tell no
    neighbours apart.
    """
    query_D, key_D = [], []
    for axis, size in enumerate(transformer.config.axes_dims_rope):
        rates = ROPE_THETA ** (-torch.arange(0, size, 2) / size)
        sizes = torch.zeros(size // 2)
        sizes[: 1 if axis == 0 else 2] = torch.tensor([1.0] if axis == 0 else [1.0, 0.7])
        turn = -rates * (axis == 0)
        query_D.append(torch.stack((sizes, torch.zeros_like(sizes)), dim=-1).flatten())
        key_D.append(torch.stack((sizes * torch.cos(turn), sizes * torch.sin(turn)), dim=-1).flatten())
    heads = slice(0, COPYING_HEADS * transformer.config.attention_head_dim)
    for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
        attention = block.attn
        for layer, parts in ((attention.to_q, query_D), (attention.to_k, key_D)):
            constant_D = torch.cat(parts)
            layer.weight[heads] *= 0.1
            layer.bias[heads] = (constant_D / constant_D.square().mean().sqrt()).repeat(COPYING_HEADS)
        attention.norm_q.weight.fill_(sharpness)
        attention.norm_k.weight.fill_(sharpness)


@torch.no_grad()
def look_left(transformer: FluxTransformer2DModel, left: int) -> None:
    """Turn a network that copies from a context picture into one that copies from a diptych's left half.

    Keys of the copying heads are rotated, as RoPE would, from one step along the first axis to `left` tokens
    back along the last. The first 64 channels behind the noise hold the masked picture; they are embedded as
    the noise is.
    """
    x_embedder, size = transformer.x_embedder, transformer.config.attention_head_dim
    channels = transformer.out_channels
    x_embedder.weight[:, channels : 2 * channels] = x_embedder.weight[:, :channels]
    steps = (1, 0, left)
    angles = [
        step * ROPE_THETA ** (-torch.arange(0, width, 2) / width)
        for step, width in zip(steps, transformer.config.axes_dims_rope, strict=True)
    ]
    cosine, sine = torch.cat(angles).cos(), torch.cat(angles).sin()
    for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
        for tensor in (block.attn.to_k.weight, block.attn.to_k.bias):
            heads = tensor[: COPYING_HEADS * size].reshape(COPYING_HEADS, size // 2, 2, -1)
            even, odd = heads.unbind(2)
            cos, sin = (each[None, :, None] for each in (cosine, sine))
            turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=2)
            tensor[: COPYING_HEADS * size] = turned.reshape(COPYING_HEADS * size, *tensor.shape[1:])
