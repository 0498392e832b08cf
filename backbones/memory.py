"""What is computed once: encodings of the last prompts and pictures, position embeddings of the last plan."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# At full size a prompt's features take 4 MB of the device.
REMEMBERED = 32


class Memory(OrderedDict[Any, Any]):
    """The results used last; the oldest go first."""

    def recall(self, keys: Sequence[Any], make: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """A result for each key; `make` gets the places of those that are missing and returns theirs."""
        missing = list({key: place for place, key in enumerate(keys) if key not in self}.values())
        fresh = dict(zip([keys[place] for place in missing], make(missing) if missing else (), strict=True))
        found = [fresh[key] if key in fresh else self[key] for key in keys]
        for key, value in zip(keys, found, strict=True):
            self[key] = value
            self.move_to_end(key)
        while len(self) > REMEMBERED:
            self.popitem(last=False)
        return found


class RememberedPositions(nn.Module):
    """diffusers' FluxPosEmbed, recomputed only where the ids differ from the last ones."""

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


def remember_positions(transformer: Any) -> None:
    """Wrap a transformer's position embedding; it holds no weights, so its state dict stays as it is."""
    if not isinstance(transformer.pos_embed, RememberedPositions):
        transformer.pos_embed = RememberedPositions(transformer.pos_embed)
