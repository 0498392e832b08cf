"""Adapters of transformers that were let go, which are loaded again with them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from editkit import adapters
from editkit.backbone import Transformer

Load = Callable[[Transformer, Path, str], object]


class AdaptersAgain:
    """What was loaded on each transformer and what it wears, by the transformer's key."""

    def __init__(self) -> None:
        self._loaded: dict[str, dict[str, tuple[Path, Load]]] = {}
        self._worn: dict[str, tuple[Sequence[str], Sequence[float] | None]] = {}

    def loaded(self, key: str, path: Path, name: str, load: Load) -> None:
        """Remember an adapter and how it is loaded."""
        self._loaded.setdefault(key, {})[name] = path, load

    def worn(self, key: str, names: Sequence[str], scales: Sequence[float] | None) -> None:
        """Remember which adapters are switched on."""
        self._worn[key] = names, scales

    def restore(self, key: str, transformer: Transformer) -> None:
        """Give a transformer that was loaded anew the adapters of the one before, switched as they were."""
        found = self._loaded.get(key, {})
        for name, (path, load) in found.items():
            load(transformer, path, name)
        if found:
            adapters.enable(transformer, *self._worn.get(key, ((), None)))
