"""FLUX's forward pass written out; some tokens have their own modulation and see each other only."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor


def velocity(
    transformer: Any,
    own_BLC: Tensor,
    context_BSC: Tensor,
    ids_N3: Tensor,
    text_BTD: Tensor,
    pooled_BD: Tensor,
    t: float,
    guidance: float,
) -> Tensor:
    """The velocity of the own tokens: one pass over text, own tokens and context, with a mask.

    The context's modulation is that of time 0, guidance 1 and no text; ids are of all tokens, text first.
    """
    batch, own, count = len(own_BLC), own_BLC.shape[1], context_BSC.shape[1]
    text = text_BTD.shape[1]
    total = text + own + count

    def modulation(time: float, scale: float, pooled: Tensor) -> Tensor:
        levels = (torch.full((batch,), value * 1000.0) for value in (time, scale))
        return F.silu(transformer.time_text_embed(*levels, pooled))[:, None]

    now, fixed = modulation(t, guidance, pooled_BD), modulation(0.0, 1.0, torch.zeros_like(pooled_BD))
    emb_image = torch.cat((now.expand(-1, own, -1), fixed.expand(-1, count, -1)), dim=1)
    emb_text = now.expand(-1, text, -1)
    emb_all = torch.cat((emb_text, emb_image), dim=1)
    attends = torch.ones(total, total, dtype=torch.bool)
    attends[-count:, :-count] = False
    rotary = transformer.pos_embed(ids_N3)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = (apply_rotary_emb(each, rotary, sequence_dim=1) for each in (query, key))
        heads = (each.transpose(1, 2) for each in (query, key, value))
        return F.scaled_dot_product_attention(*heads, attn_mask=attends).transpose(1, 2).flatten(2)

    def heads(attn: Any, x: Tensor, names: tuple[str, ...], norms: tuple[Any, Any]) -> list[Tensor]:
        query, key, value = (getattr(attn, name)(x).unflatten(-1, (attn.heads, -1)) for name in names)
        return [norms[0](query), norms[1](key), value]

    def plain(x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=1e-6)

    image = transformer.x_embedder(torch.cat((own_BLC, context_BSC), dim=1))
    words = transformer.context_embedder(text_BTD)
    for block in transformer.transformer_blocks:
        attn = block.attn
        shift, scale, gate, shift2, scale2, gate2 = block.norm1.linear(emb_image).chunk(6, -1)
        tshift, tscale, tgate, tshift2, tscale2, tgate2 = block.norm1_context.linear(emb_text).chunk(6, -1)
        of_image = heads(
            attn,
            plain(image) * (1 + scale) + shift,
            ("to_q", "to_k", "to_v"),
            (attn.norm_q, attn.norm_k),
        )
        of_text = heads(
            attn,
            plain(words) * (1 + tscale) + tshift,
            ("add_q_proj", "add_k_proj", "add_v_proj"),
            (attn.norm_added_q, attn.norm_added_k),
        )
        out = attend(*(torch.cat(pair, dim=1) for pair in zip(of_text, of_image, strict=True)))
        image = image + gate * attn.to_out[0](out[:, text:])
        words = words + tgate * attn.to_add_out(out[:, :text])
        image = image + gate2 * block.ff(plain(image) * (1 + scale2) + shift2)
        words = words + tgate2 * block.ff_context(plain(words) * (1 + tscale2) + tshift2)
    whole = torch.cat((words, image), dim=1)
    for block in transformer.single_transformer_blocks:
        shift, scale, gate = block.norm.linear(emb_all).chunk(3, -1)
        normed = plain(whole) * (1 + scale) + shift
        attn = block.attn
        out = attend(*heads(attn, normed, ("to_q", "to_k", "to_v"), (attn.norm_q, attn.norm_k)))
        wide = torch.cat((out, F.gelu(block.proj_mlp(normed), approximate="tanh")), dim=-1)
        whole = whole + gate * block.proj_out(wide)
    scale, shift = transformer.norm_out.linear(now).chunk(2, -1)
    return transformer.proj_out(plain(whole[:, text : text + own]) * (1 + scale) + shift)
