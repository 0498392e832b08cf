"""A FLUX family's transformers: loaded when first needed, switched by role, adapted by LoRA."""

import gc
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from backbones import hub
from backbones.adapter_restore import AdapterRestorer
from backbones.encoding_cache import remember_positions
from backbones.loading import LoadOptions, load_transformer, place
from backbones.low_memory import chosen
from backbones.placement import Placement
from backbones.widening import widened
from editkit import adapters
from editkit.backbone import Family, Role, Transformer
from editkit.errors import EditkitError, unknown


class RoleTransformers:
    """A transformer per role of a family; roles with one key share one.

    Args:
        family: what is loaded from where.
        device: where everything runs.
        dtype: of all weights.
        options: quantization, offload, attention, caching, compilation.
    """

    def __init__(
        self, family: Family, device: torch.device, dtype: torch.dtype, options: LoadOptions | None = None
    ) -> None:
        self.family, self.name, self.device, self.dtype = family, family.name, device, dtype
        self.options = options or LoadOptions()
        self.transformer_device = device
        """Where transformers are put, which is elsewhere until they are in shards."""
        self.transformers: dict[str, FluxTransformer2DModel] = {}
        self.placement = Placement(device, chosen(self.options.low_memory, str(device)))
        self._adapters: dict[str, str] = {}
        self._restorer = AdapterRestorer()
        self._unsaved = False  # some weights are in memory alone
        self._made: set[str] = set()  # keys of transformers that cannot be loaded again

    def role(self, name: str) -> Role:
        """The role's record.

        Raises:
            EditkitError: where the family has no such role.
        """
        if name not in self.family.roles:
            raise EditkitError(unknown(f"role of the backbone {self.name!r} called", name, self.family.roles))
        return self.family.roles[name]

    @property
    def roles(self) -> Collection[str]:
        return self.family.roles.keys()

    @property
    def panels_alone(self) -> bool:
        return self.family.panels_alone

    def sizes(self, role: str) -> Sequence[tuple[int, int]]:
        return self.role(role).sizes

    def defaults(self, role: str) -> tuple[int, float]:
        record = self.role(role)
        return record.steps, record.guidance or 0.0

    def loading(self) -> dict[str, Any]:
        """The loading options that are not the default ones, in JSON's types."""
        usual = asdict(type(self.options)())
        chosen = {key: value for key, value in asdict(self.options).items() if value != usual[key]}
        found: dict[str, Any] = json.loads(json.dumps(chosen, default=str))
        return found

    def load_adapter(
        self,
        role: str,
        path: Path,
        name: str,
        load: Callable[[Transformer, Path, str], object] = adapters.load,
    ) -> None:
        """Load an adapter next to others on a role's transformer; a recipe names it by its hash."""
        load(self.transformer(role), path, name)
        self._restorer.remember_loaded(self.role(role).key, path, name, load)
        self._adapters[name] = adapters.digest(path)

    def set_adapters(self, role: str, names: Sequence[str], scales: Sequence[float] | None = None) -> None:
        """Switch a role's transformer to exactly these adapters; one that is not loaded yet has none."""
        if names or (role in self.roles and self.role(role).key in self.transformers):
            adapters.enable(self.transformer(role), names, scales)
        if role in self.roles:
            self._restorer.remember_active(self.role(role).key, names, scales)

    def folder(self, role: str) -> Path:
        """The role's pipeline folder on this machine, its transformer fetched if need be."""
        record = self.role(role)
        return hub.fetch(record.source, record.licence, hub.weights(["transformer"]))

    def transformer(self, role: str) -> FluxTransformer2DModel:
        """The role's transformer; roles with one key share one."""
        record = self.role(role)
        if record.key not in self.transformers:
            self._let_go()
            if start := self._start(role):
                loaded = widened(self._apart(start), record.in_channels)
            else:
                loaded = self._load_transformer(role)
            if loaded.config.in_channels != record.in_channels:
                raise EditkitError(
                    f"The transformer given takes {loaded.config.in_channels} channels, the role {role!r} of "
                    f"{self.name!r} {record.in_channels}; name files by role, as transformer={{{role}: ...}}."
                )
            self._register(record.key, self._placed(loaded))
            self._restorer.restore(record.key, loaded)
            if self.options.quantizer("transformer"):
                self.placement.visit(record.key, loaded)  # it was made on the device
        elif self.placement.preset:
            self.transformers[record.key] = self.transformers.pop(record.key)  # the one used last at the end
        return self.transformers[record.key]

    def visiting(self, role: str) -> FluxTransformer2DModel:
        """The role's transformer, ready to compute: on the device, where it does not visit it in groups."""
        transformer = self.transformer(role)
        self.placement.visit(self.role(role).key, transformer)
        return transformer

    def _let_go(self) -> None:
        """Let go of transformers that can be loaded again, as many as the preset asks for."""
        if self.placement.preset is None:
            return
        lasting = [key for key in self.transformers if key not in self._made]
        while lasting and len(self.transformers) >= self.placement.preset.transformers:
            key = lasting.pop(0)
            del self.transformers[key]
            self.placement.forget(key)
            gc.collect()  # hooks and their module hold each other
        if self.options.quantizer("transformer"):
            self.placement.clear()  # the next is made on the device, at a size that is known only then

    def _placed(self, transformer: FluxTransformer2DModel) -> FluxTransformer2DModel:
        return place(transformer, self.transformer_device, self.options, self.placement)

    def _start(self, role: str) -> str | None:
        """The role whose transformer this one's is, but for a wider input."""
        own = None if self.options.instead(role) else self.role(role).start
        return self.options.start(role) or own

    def _apart(self, role: str) -> FluxTransformer2DModel:
        """A role's transformer to take weights from: that in use, or another where hooks move its weights.

        Raises:
            EditkitError: where it is itself another role's.
        """
        if self._start(role):
            raise EditkitError(f"{self.name} has no weights of its own for the role {role!r}; name another.")
        if self.options.offload in (None, "none") and self.placement.preset is None:
            return self.transformer(role)
        return self._load_transformer(role)

    def _load_transformer(self, role: str) -> FluxTransformer2DModel:
        device = self.transformer_device
        return load_transformer(self.options, role, lambda: self._own(role), self.dtype, device)

    def _own(self, role: str) -> Path:
        """The role's transformer on this machine: a folder of its pipeline, or a file apart from it."""
        record = self.role(role)
        if record.file is None:
            return self.folder(role) / "transformer"
        repository, _, name = record.file.rpartition("/")
        return hub.fetch(repository, record.licence, [name]) / name

    def widen(self, role: str, start: str) -> None:
        """Give a role a transformer that begins as another role's; its wider input has no effect yet.

        Raises:
            EditkitError: where a role is missing, or no way is known from the one's channels to the other's.
        """
        made = widened(self.transformer(start), self.role(role).in_channels)
        self.transformers.pop(self.role(start).key)  # whose weights the wider one has taken over
        self._register(self.role(role).key, self._placed(made))
        self._made.add(self.role(role).key)
        self._unsaved = True

    def _adapters_of(self, role: str) -> dict[str, str]:
        transformer = self.transformer(role)
        active = adapters.active(transformer)
        return {
            f"adapter {name} x{scale:g}": self._adapters.get(name, "unsaved")
            for name, scale in active.items()
        }

    def _register(self, key: str, transformer: FluxTransformer2DModel) -> None:
        remember_positions(transformer)
        self.transformers[key] = transformer
