"""Attention that keeps keys and values of image tokens, and attends to those of an earlier pass.

diffusers has it for FLUX.2 (`Flux2KVAttnProcessor`); FLUX.1's processors take no cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttention, FluxAttnProcessor
from torch import Tensor

from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.key_values import Layers


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionMemory:
    """The keys and values that one forward pass reads besides its own, and those that it keeps.

    Attributes:
        held: keys and values by layer that all tokens attend to, after their own; None for none.
        kept: where the keys and values of the last `tokens` tokens of the sequence are put; None for nowhere.
        tokens: number of tokens whose keys and values are kept.
    """

    held: Layers | None = None
    kept: Layers | None = None
    tokens: int = 0

    # Compiled blocks share one graph; the look-up by layer stays outside it.
    @torch._dynamo.disable  # type: ignore[untyped-decorator]
    def exchange(self, layer: int, key_BNHD: Tensor, value_BNHD: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's keys and values, and return them followed by the held ones."""
        if self.kept is not None:
            self.kept[layer] = key_BNHD[:, -self.tokens :], value_BNHD[:, -self.tokens :]
        if self.held is None:
            return key_BNHD, value_BNHD
        batch = len(key_BNHD)
        key, value = (held.to(key_BNHD.dtype).expand(batch, -1, -1, -1) for held in self.held[layer])
        return torch.cat((key_BNHD, key), dim=1), torch.cat((value_BNHD, value), dim=1)


class MemoryAttnProcessor(FluxAttnProcessor):  # type: ignore[misc]
    """diffusers' processor of FLUX.1, which exchanges keys and values with a memory where one is given.

    Args:
        layer: number of the attention layer.
    """

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def __call__(
        self,
        attn: FluxAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        memory: AttentionMemory | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend; without a memory exactly as diffusers does."""
        if memory is None:
            plain: Tensor | tuple[Tensor, Tensor] = super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
            return plain
        query, key, value = _heads(attn, hidden_states, ("to_q", "to_k", "to_v"), (attn.norm_q, attn.norm_k))
        text = 0
        if encoder_hidden_states is not None:
            names = ("add_q_proj", "add_k_proj", "add_v_proj")
            norms = (attn.norm_added_q, attn.norm_added_k)
            added = _heads(attn, encoder_hidden_states, names, norms)
            query, key, value = (
                torch.cat(pair, dim=1) for pair in zip(added, (query, key, value), strict=True)
            )
            text = encoder_hidden_states.shape[1]
        if image_rotary_emb is not None:
            query, key = (apply_rotary_emb(each, image_rotary_emb, sequence_dim=1) for each in (query, key))
        key, value = memory.exchange(self.layer, key, value)
        attended: Tensor = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        attended = attended.flatten(2, 3).to(query.dtype)
        if encoder_hidden_states is None:
            return attended
        # Contiguous as in diffusers: some quantized layers take no other tensors.
        image = attn.to_out[1](attn.to_out[0](attended[:, text:].contiguous()))
        return image, attn.to_add_out(attended[:, :text].contiguous())


def _heads(
    attn: FluxAttention, tokens_BND: Tensor, names: tuple[str, ...], norms: tuple[torch.nn.Module, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Project tokens to queries, keys and values (B, N, heads, head width); normalize the first two."""
    query, key, value = (getattr(attn, name)(tokens_BND).unflatten(-1, (-1, attn.head_dim)) for name in names)
    return norms[0](query), norms[1](key), value


def use_memory(transformer: FluxTransformer2DModel) -> None:
    """Let a transformer's attention take a memory; without one it stays as it is, bit for bit.

    Raises:
        EditkitError: where blocks are skipped by a cache, or a layer's processor is of another kind.
    """
    if transformer.is_cache_enabled:
        raise EditkitError(
            "Kept keys and values do not go together with skipped blocks; leave out the loading option "
            "`cache` or speed=cache=..., or edit with speed=exact and joint context."
        )
    blocks = (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
    for layer, block in enumerate(blocks):
        before = block.attn.processor
        if isinstance(before, MemoryAttnProcessor):
            continue
        if type(before) is not FluxAttnProcessor or getattr(block.attn, "fused_projections", False):
            raise EditkitError(
                f"Attention by {type(before).__name__} cannot keep keys and values; use speed=exact and "
                "joint context."
            )
        processor = MemoryAttnProcessor(layer)
        # The backend and the parallel plan that were chosen for this transformer.
        processor._attention_backend = before._attention_backend
        processor._parallel_config = before._parallel_config
        block.attn.set_processor(processor)
