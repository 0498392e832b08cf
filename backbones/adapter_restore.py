"""Load the adapters of an evicted transformer again when it comes back."""

from collections.abc import Callable, Sequence
from pathlib import Path

from editkit import adapters
from editkit.backbone import Transformer

Load = Callable[[Transformer, Path, str], object]


class AdapterRestorer:
    """Remembers which adapters each transformer has, by the transformer's key."""

    def __init__(self) -> None:
        self._loaded: dict[str, dict[str, tuple[Path, Load]]] = {}
        self._active: dict[str, tuple[Sequence[str], Sequence[float] | None]] = {}

    def remember_loaded(self, key: str, path: Path, name: str, load: Load) -> None:
        """Remember an adapter and how it is loaded."""
        self._loaded.setdefault(key, {})[name] = path, load

    def remember_active(self, key: str, names: Sequence[str], scales: Sequence[float] | None) -> None:
        """Remember which adapters are active."""
        self._active[key] = names, scales

    def forget(self, key: str, name: str) -> None:
        """Forget an adapter; where it was active, none is after a restore until some are activated again."""
        self._loaded.get(key, {}).pop(name, None)
        if name in self._active.get(key, ((), None))[0]:
            del self._active[key]

    def restore(self, key: str, transformer: Transformer) -> None:
        """Load and activate the same adapters on a transformer that was loaded again."""
        found = self._loaded.get(key, {})
        for name, (path, load) in found.items():
            load(transformer, path, name)
        if found:
            adapters.enable(transformer, *self._active.get(key, ((), None)))
