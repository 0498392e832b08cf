"""The adapter manager: which adapters each method uses, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from editkit import notes
from editkit.backbone import provider
from editkit.errors import EditkitError, NoAdapterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from editkit.backbone import Backbone, Transformer
    from editkit.config import Options
    from editkit.types import EditRequest

HUB = "hf://"
"""Before the path of a file in a repository on the Hub."""


class AdaptedMethod(Protocol):
    """The parts of `editkit.method.Method` that the manager needs."""

    @property
    def name(self) -> str:
        """The folder's name."""

    @property
    def adapter(self) -> Callable[[Options, str | None, EditRequest], str | None] | None:
        """The adapter that it uses by default."""

    @property
    def load_adapter(self) -> Callable[[Transformer, Path, str], object] | None:
        """Loads an adapter file of the method's own kind."""

    def role_under(self, options: Options) -> str:
        """The backbone's transformer that it runs on."""


class AdapterManager:
    """Decides which adapters a transformer uses for which method of one editor.

    Args:
        backbone: its transformers carry the adapters.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._chosen: dict[str, tuple[Sequence[str], Sequence[float] | None]] = {}
        self._paths: dict[str, Path] = {}

    def copy(self) -> AdapterManager:
        """Copy the choices for another editor of this backbone."""
        other = AdapterManager(self.backbone)
        other._chosen, other._paths = dict(self._chosen), self._paths
        return other

    def load(self, method: AdaptedMethod, options: Options, path: Path, name: str | None) -> str:
        """Load an adapter and let a method use it from now on; returns its name, the file's where None.

        Files of different folders often share a name; the second one's name then ends in its hash.

        Raises:
            EditkitError: where it is missing, is no safetensors LoRA, or does not fit.
        """
        from editkit import adapters, atomic_files

        role = method.role_under(options)
        if name is not None:
            self._load(method, role, path, name)
        else:
            name = path.stem.replace(".", "_")  # torch allows no dots in a module's name
            if adapters.file(path).is_file() and self._is_loaded(role, name):
                name = f"{name}-{atomic_files.sha256(adapters.file(path))[:8]}"
            if not self._is_loaded(role, name):
                self._load(method, role, path, name)
        self.use(method, options, [name], None)
        return name

    def use(
        self, method: AdaptedMethod, options: Options, names: Sequence[str], scales: Sequence[float] | None
    ) -> None:
        """Choose the adapters that a method uses from now on instead of its default; none gives the base.

        Raises:
            EditkitError: for one that was not loaded, or another number of scales.
        """
        from editkit import adapters

        role = method.role_under(options)
        adapters.enable(self.backbone.transformer(role), names, scales)
        self._chosen[method.name] = names, scales

    def activate(self, method: AdaptedMethod, options: Options, request: EditRequest) -> None:
        """Switch the method's transformer to exactly its adapters; methods may share a transformer.

        Raises:
            EditkitError: where the default adapter cannot be fetched or loaded.
        """
        role = method.role_under(options)
        chosen: tuple[Sequence[str], Sequence[float] | None] = ((), None)
        if method.name in self._chosen:
            chosen = self._chosen[method.name]
        elif method.adapter:
            try:
                own = method.adapter(options, self.backbone.base, request)
            except NoAdapterError as error:
                notes.tell(f"{error} Give one with the option adapter=FILE.")
            else:
                chosen = ([self._own(method, role, own)] if own else (), None)
        self.backbone.set_adapters(role, *chosen)

    def _own(self, method: AdaptedMethod, role: str, adapter: str) -> str:
        """Load a method's default adapter, unless another editor of this backbone did; return its name."""
        from editkit import adapters, atomic_files

        if adapter not in self._paths:
            self._paths[adapter] = _find(adapter)
        path = self._paths[adapter]
        name = f"{method.name}-{atomic_files.sha256(adapters.file(path))[:8]}"
        if not self._is_loaded(role, name):
            self._load(method, role, path, name)
        return name

    def _is_loaded(self, role: str, name: str) -> bool:
        from editkit import adapters

        return any(name in layer.r for layer in adapters.layers(self.backbone.transformer(role)))

    def _load(self, method: AdaptedMethod, role: str, path: Path, name: str) -> None:
        from editkit import adapters

        self.backbone.load_adapter(role, path, name, method.load_adapter or adapters.load)


def _find(adapter: str) -> Path:
    """Find an adapter's file or folder on disk, or fetch it by its Hub id."""
    from editkit import adapters

    if Path(adapter).exists():
        return Path(adapter)
    fetch = provider().fetch
    if adapter.startswith(HUB):
        owner, repository, *inside = (*adapter.removeprefix(HUB).split("/"), "", "")
        inside = [part for part in inside if part]
        if not (owner and repository and inside):
            raise EditkitError(f"The adapter {adapter} is no file on the Hub; give hf://OWNER/NAME/FILE.")
        folder: Path = fetch(f"{owner}/{repository}", None, ["/".join(inside)])
        return folder.joinpath(*inside)
    if adapter.count("/") != 1 or adapter.endswith(".safetensors"):
        raise EditkitError(f"The adapter {adapter} is no file or folder that exists, and no Hub id.")
    found: Path = fetch(adapter, None, [adapters.FILE])
    return found
