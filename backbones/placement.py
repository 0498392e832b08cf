"""Decide which models are on the device and which wait on the CPU until they are needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

import torch
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.group_offloading import GroupOffloadingHook, ModuleGroup
from torch import nn

from backbones.low_memory import Preset
from backbones.weight_tracker import TrackedGroup, WeightTracker, group_tensors, tensors, weight_bytes
from editkit.errors import EditkitError

CPU = torch.device("cpu")


class Placement:
    """Moves models to the device before they are used, and keeps their weights below a preset's limit.

    Args:
        device: the device on which models are used.
        preset: the limit; without one, models move to the device in `place` and stay there.
    """

    def __init__(self, device: torch.device, preset: Preset | None) -> None:
        self.device, self.preset = device, preset
        self.tracker = WeightTracker()
        self._onloaded: dict[str, nn.Module] = {}  # models on the device, the last used one at the end

    def place(
        self, model: nn.Module, device: torch.device, offload: str | None = None, level: str = "block"
    ) -> None:
        """Decide how a new model reaches the device, and move it there if it stays there.

        Args:
            model: a model on the CPU, or a quantized one on the device.
            device: the model's own device, which differs for transformers that will be sharded.
            offload: `none`, `block` or `leaf` if the user chose it.
            level: `block` or `leaf`: how a model larger than the preset's limit visits the device.

        Raises:
            EditkitError: where `none` was chosen and the model is larger than the limit.
        """
        bound, needed = self.preset.weights if self.preset else inf, weight_bytes(tensors(model))
        if offload == "none" and needed > bound:
            raise EditkitError(
                f"offload=none keeps {needed / 1e9:.1f} GB on the device, and low_memory allows "
                f"{bound / 1e9:.1f} GB; leave one of the two out."
            )
        kind = offload or (level if needed > bound else "none")
        if kind != "none":
            stream = self.preset is not None and self.preset.stream and device.type == "cuda"
            _group(model, device, kind, stream)
        elif self.preset is None:
            _move(model, device)

    def onload(self, name: str, model: nn.Module) -> None:
        """Move a model to the device; others move to the CPU if the limit requires it."""
        if self.preset is None:
            return
        groups = list(_groups(model))
        if groups:
            for group in groups:
                if not isinstance(group, TrackedGroup):
                    group.__class__ = TrackedGroup
                    group.tracker = self.tracker
            self._make_room(name, _largest_onloaded(groups))
            return
        if self._onloaded.get(name) is not model:
            self.offload(name)
        self._make_room(name, weight_bytes(tensors(model)))
        _move(model, self.device)
        self.tracker.add(name, tensors(model))
        self._onloaded.pop(name, None)
        self._onloaded[name] = model

    def offload(self, name: str) -> None:
        """Move a model to the CPU if it is on the device."""
        model = self._onloaded.pop(name, None)
        if model is not None:
            _move(model, CPU)
            self.tracker.remove(name)

    def forget(self, name: str) -> None:
        """Forget a model that is dropped from memory."""
        self._onloaded.pop(name, None)
        self.tracker.remove(name)

    @contextmanager
    def onloaded(self, **models: nn.Module) -> Iterator[None]:
        """Keep text encoders on the device within the block; then offload them if the preset says so."""
        for name, model in models.items():
            self.onload(name, model)
        try:
            yield
        finally:
            if self.preset and self.preset.offload_encoders:
                for name in models:
                    self.offload(name)

    def offload_all(self) -> None:
        """Move all models to the CPU."""
        for name in list(self._onloaded):
            self.offload(name)

    def _make_room(self, name: str, needed: int) -> None:
        """Offload the least recently used models until `needed` bytes fit."""
        assert self.preset is not None
        others = [other for other in self._onloaded if other != name]
        already = weight_bytes(tensors(self._onloaded[name])) if name in self._onloaded else 0
        while others and self.tracker.current - already + needed > self.preset.weights:
            self.offload(others.pop(0))


def _largest_onloaded(groups: list[ModuleGroup]) -> int:
    """Return the bytes on the device at once: layers outside of blocks, a block and the next one."""
    sizes = sorted((weight_bytes(group_tensors(group)) for group in groups), reverse=True)
    ahead = 2 if groups[0].stream is not None else 1
    return sum(sizes[: ahead + 1])


def _groups(model: nn.Module) -> Iterator[ModuleGroup]:
    """Yield each group in which a model visits the device once."""
    seen: set[int] = set()
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        hook = registry and registry.get_hook("group_offloading")
        if isinstance(hook, GroupOffloadingHook) and id(hook.group) not in seen:
            seen.add(id(hook.group))
            yield hook.group


def _group(model: nn.Module, device: torch.device, kind: str, stream: bool) -> None:
    """Let a model visit the device group by group."""
    apply_group_offloading(
        model,
        onload_device=device,
        offload_device=CPU,
        offload_type=f"{kind}_level",
        num_blocks_per_group=1 if kind == "block" else None,
        use_stream=stream,
        # Copies pinned in advance are rounded up to powers of two and take more main memory.
        low_cpu_mem_usage=stream,
    )


def _move(model: nn.Module, device: torch.device) -> None:
    """Move a model unless it is there already; some quantized models refuse even that."""
    where = next(model.parameters()).device
    if where.type != device.type or device.index not in (None, where.index):
        model.to(device)
