"""Load a FLUX family's transformers on first use, switch them by role, and adapt them by LoRA."""

import gc
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import FluxTransformer2DModel

from backbones import copying, hub
from backbones.adapter_restore import AdapterRestorer
from backbones.load_options import FILES, LoadOptions
from backbones.loading import apply_options, load_transformer, place_transformer
from backbones.low_memory import choose_preset
from backbones.placement import Placement
from backbones.position_cache import cache_positions
from backbones.weight_sizes import family_bytes
from backbones.weight_slices import WidenedSlices, open_slices
from backbones.widening import COLUMNS, widen_transformer
from editkit import adapters
from editkit.backbone import Family, Role, Transformer, WeightReader
from editkit.errors import EditkitError, unknown
from editkit.imaging.canvas import GRID


class RoleTransformers:
    """Holds a transformer for each role of a family; roles with the same key share one.

    Args:
        family: the record that says what is loaded from where.
        device: the device on which everything runs.
        dtype: precision of all weights.
        options: quantization, offload, attention, caching, compilation.
    """

    def __init__(
        self, family: Family, device: torch.device, dtype: torch.dtype, options: LoadOptions | None = None
    ) -> None:
        self.family, self.name, self.device, self.dtype = family, family.name, device, dtype
        self.options = options or LoadOptions()
        self.transformer_device = device
        """Device of new transformers; it differs from `device` until they are sharded."""
        self.transformers: dict[str, FluxTransformer2DModel] = {}
        counted = partial(family_bytes, family, self.options, dtype)
        self.placement = Placement(device, choose_preset(self.options.low_memory, str(device), counted))
        self._adapters: dict[tuple[str, str], str] = {}  # hashes by transformer and name
        self._restorer = AdapterRestorer()
        self._unsaved = False  # some weights are in memory only
        self._unloadable: set[str] = set()  # keys of transformers that cannot be loaded again

    def role(self, name: str) -> Role:
        """Return the role's record.

        Raises:
            EditkitError: where the family has no such role.
        """
        if name not in self.family.roles:
            raise EditkitError(unknown(f"role of the backbone {self.name!r} called", name, self.family.roles))
        return self.family.roles[name]

    def _key(self, role: str) -> str:
        return self.options.key(role, self.role(role))

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
        return self.options.changed()

    def load_adapter(
        self,
        role: str,
        path: Path,
        name: str,
        load: Callable[[Transformer, Path, str], object] = adapters.load_adapter,
    ) -> None:
        """Load an adapter onto a role's transformer, beside others; a recipe names it by its hash."""
        load(self.transformer(role), path, name)
        self._restorer.remember_loaded(self._key(role), path, name, load)
        self._adapters[self._key(role), name] = adapters.digest(path)

    def unload_adapter(self, role: str, name: str) -> None:
        """Remove an adapter from a role's transformer, and do not load it again with the transformer."""
        key = self._key(role)
        self._restorer.forget(key, name)
        if key in self.transformers:
            adapters.eject(self.transformers[key], name)

    def set_adapters(self, role: str, names: Sequence[str], scales: Sequence[float] | None = None) -> None:
        """Activate exactly these adapters of a role's transformer; one that is not loaded yet has none."""
        if names or (role in self.roles and self._key(role) in self.transformers):
            adapters.enable(self.transformer(role), names, scales)
        if role in self.roles:
            self._restorer.remember_active(self._key(role), names, scales)

    def folder(self, role: str) -> Path:
        """Return the role's pipeline folder on this machine; its transformer is downloaded if need be."""
        record = self.role(role)
        return hub.fetch(record.source, record.licence, hub.file_patterns(["transformer"]))

    def transformer(self, role: str) -> FluxTransformer2DModel:
        """Return the role's transformer, and load it if need be; roles with the same key share one."""
        record, key = self.role(role), self._key(role)
        if key not in self.transformers:
            self._evict()
            if start := self._source_role(role):
                loaded = widen_transformer(self._source_transformer(start), record.in_channels)
            else:
                loaded = self._load_transformer(role)
            if loaded.config.in_channels != record.in_channels:
                raise EditkitError(
                    f"The given transformer takes {loaded.config.in_channels} channels, the role {role!r} "
                    f"of {self.name!r} takes {record.in_channels}; name files by role, as "
                    f"transformer={{{role}: ...}}."
                )
            self._register(key, self._place(loaded))
            self._restorer.restore(key, loaded)
            if self.options.quantizer("transformer"):
                self.placement.onload(key, loaded)  # it was quantized on the device
        elif self.placement.preset:
            self.transformers[key] = self.transformers.pop(key)  # the last used one at the end
        return self.transformers[key]

    def empty_transformer(self, role: str, start: str | None = None) -> WeightReader | None:
        """Give a role a transformer on the meta device; return what reads its weights.

        Returns None, and changes nothing, where rows cannot be read alone, as weights are quantized, and
        where only loading them whole says what is wrong.
        """
        record, origin = self.role(role), start or self._source_role(role) or role
        where = self.options.replacement(origin) or self._own_path(origin)
        folder = (where / "config.json").is_file()
        lost = not folder and not (where.is_file() and where.suffix in FILES)
        if lost or self.options.quantizer("transformer") or (origin != role and self._source_role(origin)):
            return None
        found = open_slices(where, self.options.axes, self.dtype)
        if found is None:
            return None
        made, weights = found[0], cast(WeightReader, found[1])
        if start or origin != role:
            columns = COLUMNS.get((made.config.in_channels, record.in_channels))
            if columns is None:
                return None
            made = widen_transformer(made, record.in_channels)
            weights = WidenedSlices(weights, record.in_channels, columns)
        if made.config.in_channels != record.in_channels:
            return None
        self._register(self._key(role), apply_options(made, self.options))
        if start:
            self._unloadable.add(self._key(role))
            self._unsaved = True
        return weights

    def onloaded_transformer(self, role: str) -> FluxTransformer2DModel:
        """Return the role's transformer, ready to compute: on the device, or visiting it in groups."""
        transformer = self.transformer(role)
        self.placement.onload(self._key(role), transformer)
        return transformer

    def _evict(self) -> None:
        """Drop transformers that can be loaded again, as many as the preset requires."""
        if self.placement.preset is None:
            return
        lasting = [key for key in self.transformers if key not in self._unloadable]
        while lasting and len(self.transformers) >= self.placement.preset.transformers:
            key = lasting.pop(0)
            del self.transformers[key]
            self.placement.forget(key)
            gc.collect()  # hooks and their module refer to each other
        if self.options.quantizer("transformer"):
            self.placement.offload_all()  # the next one is quantized on the device; its size is not known yet

    def _place(self, transformer: FluxTransformer2DModel) -> FluxTransformer2DModel:
        return place_transformer(transformer, self.transformer_device, self.options, self.placement)

    def _source_role(self, role: str) -> str | None:
        """Return the role whose transformer, with a widened input, is this role's; or None."""
        own = None if self.options.replacement(role) else self.role(role).start
        return self.options.source_role(role) or own

    def _source_transformer(self, role: str) -> FluxTransformer2DModel:
        """Return a role's transformer to take weights from; a separate one where hooks move the weights.

        Raises:
            EditkitError: where that role has no weights of its own either.
        """
        if self._source_role(role):
            raise EditkitError(f"{self.name} has no weights of its own for the role {role!r}; name another.")
        if self.options.offload in (None, "none") and self.placement.preset is None:
            return self.transformer(role)
        return self._load_transformer(role)

    def _load_transformer(self, role: str) -> FluxTransformer2DModel:
        device = self.transformer_device
        return load_transformer(self.options, role, lambda: self._own_path(role), self.dtype, device)

    def _own_path(self, role: str) -> Path:
        """Return the role's transformer on this machine: a folder of its pipeline, or a separate file."""
        record = self.role(role)
        if record.file is None:
            return self.folder(role) / "transformer"
        repository, _, name = record.file.rpartition("/")
        return hub.fetch(repository, record.licence, [name]) / name

    def widen(self, role: str, start: str) -> None:
        """Give a role another role's transformer with a wider input; the new channels have no effect yet.

        Raises:
            EditkitError: where a role is missing, or an input of these channels cannot be widened to those.
        """
        made = widen_transformer(self.transformer(start), self.role(role).in_channels)
        self.transformers.pop(self._key(start))  # the wider one now holds its weights
        self._register(self._key(role), self._place(made))
        self._unloadable.add(self._key(role))
        self._unsaved = True

    def look_left(self, role: str, pixels: int) -> None:
        """Let heads that copy a context picture copy a diptych's left half instead, `pixels` away.

        The masked picture's channels are embedded as the context's were.
        """
        copying.look_left(self.transformer(role), pixels // GRID)

    def _adapter_hashes(self, role: str) -> dict[str, str]:
        """Return the hashes of a role's active adapters, by name and scale."""
        return {
            f"adapter {name} x{scale:g}": self._adapters.get((self._key(role), name), "unsaved")
            for name, scale in adapters.active(self.transformer(role)).items()
        }

    def _register(self, key: str, transformer: FluxTransformer2DModel) -> None:
        cache_positions(transformer)
        self.transformers[key] = transformer
