"""Choose which adapters each method uses, and find their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from editkit import notes
from editkit.backbone import provider
from editkit.errors import EditkitError, NoAdapterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from editkit.backbone import Backbone, Transformer
    from editkit.config import Options
    from editkit.types import EditRequest

HUB = "hf://"
"""Prefix of the path of a file in a repository on the Hub."""
TEXT = "text"
"""Role of text to image."""


class AdaptedMethod(Protocol):
    """The parts of `editkit.method.Method` that the manager needs."""

    @property
    def name(self) -> str:
        """The folder's name."""

    @property
    def adapter(self) -> Callable[[Options, str | None, EditRequest], str | None] | None:
        """Chooses the default adapter."""

    @property
    def load_adapter(self) -> Callable[[Transformer, Path, str], object] | None:
        """Loads an adapter file of the method's own kind; None for a plain LoRA."""

    def role_under(self, options: Options) -> str:
        """Return the role of the transformer that the method runs on."""


class AdapterManager:
    """Decides which adapters a transformer uses for which method of one editor.

    Args:
        backbone: the backbone whose transformers get the adapters.
        lora: scales by file, folder or Hub id of adapters that every method uses in addition to its own.

    Attributes:
        private: whether recipes call adapters by their name, and hide where they are.

    Raises:
        EditkitError: for a scale that is not a number, or a file that is missing.
    """

    def __init__(self, backbone: Backbone, lora: Mapping[str, float] | None = None) -> None:
        from editkit import adapters

        self.backbone, self.lora = backbone, dict(lora or {})
        adapters.check_scales(self.lora)
        for adapter in self.lora:  # before weights are loaded, which takes minutes
            _place(adapter)
        self._chosen: dict[str, tuple[Sequence[str], Sequence[float] | None]] = {}
        self._paths: dict[str, Path] = {}
        self._names: dict[str, str] = {}
        self._hashes: dict[tuple[str, str], str | None] = {}  # by role and name
        self.private = False

    def copy(self, more: Mapping[str, float] | None = None) -> AdapterManager:
        """Copy the choice of adapters, with more for every method, for another editor of this backbone.

        Raises:
            EditkitError: if a scale is not a number, or a file is missing.
        """
        other = AdapterManager(self.backbone, more)
        other.lora = {**self.lora, **other.lora}
        other._chosen, other._paths, other._names = dict(self._chosen), self._paths, self._names
        other._hashes = self._hashes
        other.private = self.private
        return other

    def role(self, method: AdaptedMethod, options: Options) -> str:
        """Return the role that a method runs on: its own, or text to image on a family that edits nothing."""
        return TEXT if set(self.backbone.roles) == {TEXT} else method.role_under(options)

    def load(self, method: AdaptedMethod, options: Options, adapter: str, name: str | None) -> str:
        """Load an adapter and let a method use it from now on; returns its name, the file's where None.

        Files of different folders often share a name; the second one's name then ends in its hash. So does a
        name that torch does not allow.

        Raises:
            EditkitError: where it is missing, is not a LoRA in safetensors, or does not fit.
        """
        from editkit import adapters

        role, path = self.role(method, options), _find(adapter)
        if name is not None:
            self._load(method, role, path, name)
        else:
            name = _stem(path) if adapters.is_name(_stem(path)) else _hashed_name(path)
            digest = adapters.digest(path) if adapters.file(path).is_file() else None
            if (
                digest is not None
                and self._is_loaded(role, name)
                and self._hashes.get((role, name)) != digest
            ):
                name = _hashed_name(path)
            name = self._load_unless_there(method, role, path, name)
            self._hashes[role, name] = digest
        self.use(method, options, [name], None)
        return name

    def use(
        self, method: AdaptedMethod, options: Options, names: Sequence[str], scales: Sequence[float] | None
    ) -> None:
        """Let a method use exactly these adapters from now on; none at all gives the base.

        Raises:
            EditkitError: for one that was not loaded, or another number of scales.
        """
        from editkit import adapters

        role = self.role(method, options)
        adapters.enable(self.backbone.transformer(role), names, scales)
        self._chosen[method.name] = names, scales

    def activate(self, method: AdaptedMethod, options: Options, request: EditRequest) -> bool:
        """Switch the method's transformer to exactly its adapters; methods may share a transformer.

        Returns:
            Whether any of them is a user's, not the method's default.

        Raises:
            EditkitError: where the default adapter cannot be fetched or loaded.
        """
        role = self.role(method, options)
        if method.name in self._chosen:
            self.backbone.set_adapters(role, *self._chosen[method.name])
            return bool(self._chosen[method.name][0])
        own = self._own(method, options, request)
        names = [self._load_once(method, role, own)] if own else []
        scales = [1.0] * len(names)
        for source, scale in self.lora.items():
            name = self._load_once(method, role, source)
            if name in names:
                raise EditkitError(f"The adapter {source} is given twice; give it once, with one scale.")
            names.append(name)
            scales.append(scale)
            self._names[source] = name
        self.backbone.set_adapters(role, names, scales)
        return bool(self.lora) or (own is not None and own == getattr(options, "adapter", None))

    def recipe(self, method: AdaptedMethod, options: Options) -> dict[str, dict[str, Any]]:
        """Return a recipe's entries on adapters: additional ones, and options that hide a file's place."""
        entries: dict[str, dict[str, Any]] = {}
        if self.lora and method.name not in self._chosen:
            named = {self._names[each] if self.private else each: scale for each, scale in self.lora.items()}
            entries["lora"] = named
        own = getattr(options, "adapter", None)
        if self.private and isinstance(own, str) and Path(own).exists():
            entries["options"] = {**asdict(options), "adapter": _hashed_name(Path(own))}
        return entries

    def _own(self, method: AdaptedMethod, options: Options, request: EditRequest) -> str | None:
        """Find the adapter that a method uses by default."""
        if method.adapter is None:
            return None
        try:
            return method.adapter(options, self.backbone.base, request)
        except NoAdapterError as error:
            notes.tell(f"{error} Give one with the option adapter=FILE.")
            return None

    def _load_once(self, method: AdaptedMethod, role: str, adapter: str) -> str:
        """Load an adapter unless an editor of this backbone has loaded it; return its name.

        The name is the file's, whose hash follows, so that methods of one role share what is loaded.
        """
        if adapter not in self._paths:
            self._paths[adapter] = _find(adapter)
        path = self._paths[adapter]
        return self._load_unless_there(method, role, path, _hashed_name(path))

    def _load_unless_there(self, method: AdaptedMethod, role: str, path: Path, name: str) -> str:
        """Load a file unless it is there by this name, of a kind that the method loads; return its name."""
        from editkit import adapters

        own_kind = self._is_loaded(role, name) and not adapters.is_plain(
            self.backbone.transformer(role), name
        )
        if own_kind and not method.load_adapter:
            name = f"{method.name}-{name}"
        if not self._is_loaded(role, name):
            self._load(method, role, path, name)
        return name

    def _is_loaded(self, role: str, name: str) -> bool:
        from editkit import adapters

        return any(name in layer.r for layer in adapters.layers(self.backbone.transformer(role)))

    def _load(self, method: AdaptedMethod, role: str, path: Path, name: str) -> None:
        from editkit import adapters

        self.backbone.load_adapter(role, path, name, method.load_adapter or adapters.load_adapter)


def _stem(path: Path) -> str:
    return path.stem.replace(".", "_")  # torch allows no dots in a module's name


def _hashed_name(path: Path) -> str:
    """Name an adapter by its file's name and hash."""
    from editkit import adapters

    return f"{_stem(path)}-{adapters.digest(path)[:8]}"


def _find(adapter: str) -> Path:
    """Find an adapter's file or folder on disk, or fetch it from the Hub."""
    place = _place(adapter)
    return place if isinstance(place, Path) else provider().fetch_adapter(*place)


def _place(adapter: str) -> Path | tuple[str, ...]:
    """Return an adapter's path here, or its repository on the Hub, with the file in it where one is named.

    Raises:
        EditkitError: where it is not here and cannot be on the Hub.
    """
    from editkit import adapters

    if Path(adapter).exists():
        return Path(adapter)
    if adapter.startswith(HUB):
        owner, repository, *inside = (*adapter.removeprefix(HUB).split("/"), "", "")
        inside = [part for part in inside if part]
        if not (owner and repository and inside):
            raise EditkitError(f"The adapter {adapter} is not a file on the Hub; give hf://OWNER/NAME/FILE.")
        return f"{owner}/{repository}", "/".join(inside)
    if adapter.count("/") != 1 or adapters.is_adapter(adapter):
        raise EditkitError(
            f"The adapter {adapter} is neither an existing file or folder nor a Hub id; check the path."
        )
    return (adapter,)
