"""Keys and values of image tokens, which later passes attend to without computing the tokens again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    Layers = dict[int, tuple[Tensor, Tensor]]

CONDITIONAL, UNCONDITIONAL = "cond", "uncond"
"""Names of the branches: the prompt's, and the negative prompt's of true classifier-free guidance."""


class KeyValues:
    """Keys and values of the same tokens in every attention layer, for each branch of guidance.

    A layer's key and value are tensors (B, tokens, heads, head width), with the rotation by position in the
    key. One row stands for all rows of a batch.
    """

    def __init__(self, branches: dict[str, Layers] | None = None) -> None:
        self._branches: dict[str, Layers] = {} if branches is None else branches

    @classmethod
    def same_for_all(cls, layers: Layers) -> KeyValues:
        """Make keys and values that do not depend on a prompt."""
        return cls({CONDITIONAL: layers, UNCONDITIONAL: layers})

    def branch(self, name: str) -> Layers:
        """Return a branch's keys and values by the layer's number; a new branch is empty."""
        return self._branches.setdefault(name, {})

    def at(self, places_N: Tensor) -> KeyValues:
        """Select tokens by their places, (N,)."""
        return self._with(lambda tensor: tensor[:, places_N])

    def row(self, number: int) -> KeyValues:
        """Select one row of the batch."""
        return self._with(lambda tensor: tensor if len(tensor) == 1 else tensor[number : number + 1])

    def followed_by(self, other: KeyValues) -> KeyValues:
        """Join the keys and values of these tokens and of others; a single row is repeated."""
        joined: dict[str, Layers] = {}
        for name, layers in self._branches.items():
            others = other.branch(name)
            joined[name] = {
                layer: (_joined(pair[0], others[layer][0]), _joined(pair[1], others[layer][1]))
                for layer, pair in layers.items()
            }
        return KeyValues(joined)

    def _with(self, select: Callable[[Tensor], Tensor]) -> KeyValues:
        """Select from each layer once, also where branches share their layers."""
        made: dict[int, Layers] = {}
        for layers in self._branches.values():
            if id(layers) not in made:
                made[id(layers)] = {
                    layer: (select(key), select(value)) for layer, (key, value) in layers.items()
                }
        return KeyValues({name: made[id(layers)] for name, layers in self._branches.items()})


def _joined(one: Tensor, other: Tensor) -> Tensor:
    batch = max(len(one), len(other))
    return torch.cat([each.expand(batch, -1, -1, -1) for each in (one, other)], dim=1)
