"""Cache encoded prompts and pictures, in memory or on disk."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from editkit import atomic_files
from editkit.errors import EditkitError, first_sentence

CAPACITY = 32
"""Number of results in memory. At full size, an encoded prompt takes 4 MB of the device."""


class LruCache(OrderedDict[Any, Any]):
    """Keeps the most recently used results in memory and drops the oldest ones."""

    def get_or_compute(self, keys: Sequence[Any], make: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """Return a result for each key, and compute the missing ones.

        Args:
            keys: what each result depends on.
            make: gets the positions of missing keys in `keys`, and returns their results in this order.
        """
        missing = list({key: place for place, key in enumerate(keys) if key not in self}.values())
        fresh = dict(zip([keys[place] for place in missing], make(missing) if missing else (), strict=True))
        found = [fresh[key] if key in fresh else self[key] for key in keys]
        for key, value in zip(keys, found, strict=True):
            self[key] = value
            self.move_to_end(key)
        while len(self) > CAPACITY:
            self.popitem(last=False)
        return found


class TextCache:
    """Keeps encoded prompts on disk, one file each; several processes may share the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get_or_compute(
        self, keys: Sequence[Any], make: Callable[[list[int]], Sequence[tuple[Tensor, Tensor]]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Do the same as `LruCache.get_or_compute`, for T5's tokens TD and CLIP's pooled feature D.

        Files are as the results are, with the padding behind a prompt's tokens: FLUX attends to it.

        Raises:
            EditkitError: where a result cannot be written, or a file is damaged.
        """
        paths = [
            self.folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.safetensors" for key in keys
        ]
        missing = list({path: place for place, path in enumerate(paths) if not path.is_file()}.values())
        for place, (tokens_TD, pooled_D) in zip(missing, make(missing) if missing else (), strict=True):
            self._write(paths[place], tokens_TD, pooled_D)
        try:
            found = [load_file(path) for path in paths]
        except (OSError, SafetensorError) as error:
            problem = first_sentence(error)
            raise EditkitError(
                f"Encoded prompts in {self.folder} cannot be read ({problem}); delete this folder."
            ) from error
        return [(each["tokens_TD"], each["pooled_D"]) for each in found]

    def _write(self, path: Path, tokens_TD: Tensor, pooled_D: Tensor) -> None:
        try:
            with atomic_files.beside(path) as partial:
                save_file({"tokens_TD": tokens_TD.contiguous(), "pooled_D": pooled_D.contiguous()}, partial)
        except (OSError, SafetensorError) as error:
            problem = first_sentence(error)
            raise EditkitError(
                f"Encoded prompts cannot be written to {self.folder} ({problem}); free some space or give "
                "another cache."
            ) from error
