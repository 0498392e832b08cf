"""Compute a transformer's position embedding once for edits with the same position ids."""

from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn


class CachedPositionEmbedding(nn.Module):
    """Wraps diffusers' FluxPosEmbed; computes it again only when the position ids have changed."""

    def __init__(self, embed: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self._ids: Tensor | None = None
        self._rotary: Any = None

    def forward(self, ids_L3: Tensor) -> Any:
        last = self._ids
        if last is None or last.device != ids_L3.device or not torch.equal(last, ids_L3):
            self._ids, self._rotary = ids_L3, self.embed(ids_L3)
        return self._rotary


def cache_positions(transformer: FluxTransformer2DModel) -> None:
    """Cache a transformer's position embedding; it holds no weights, so the state dict stays the same."""
    if not isinstance(transformer.pos_embed, CachedPositionEmbedding):
        transformer.pos_embed = CachedPositionEmbedding(transformer.pos_embed)
