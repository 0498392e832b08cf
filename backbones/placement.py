"""Where weights are: on the device, or waiting on the CPU until they are needed."""

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
    """Brings models to the device before they are used, within a preset's bound.

    Args:
        device: where they are used.
        preset: the bound; without one, models go to the device when they are put and stay there.
    """

    def __init__(self, device: torch.device, preset: Preset | None) -> None:
        self.device, self.preset = device, preset
        self.tracker = WeightTracker()
        self._onloaded: dict[str, nn.Module] = {}  # those on the device, the one used last at the end

    def place(
        self, model: nn.Module, device: torch.device, offload: str | None = None, level: str = "block"
    ) -> None:
        """Settle how a new model reaches the device, and take it there where it stays.

        Args:
            model: on the CPU, or quantized on the device.
            device: its own, which is elsewhere for transformers that will be in shards.
            offload: `none`, `block` or `leaf` where somebody asked for it.
            level: `block` or `leaf`, for a model that is larger than the preset's bound.

        Raises:
            EditkitError: where `none` was asked for and the model is larger than that.
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
        """Have a model on the device, which sends others away where the bound asks for it."""
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
        """Send a model to wait on the CPU, where it is on the device."""
        model = self._onloaded.pop(name, None)
        if model is not None:
            _move(model, CPU)
            self.tracker.remove(name)

    def forget(self, name: str) -> None:
        """Strike out a model that is let go."""
        self._onloaded.pop(name, None)
        self.tracker.remove(name)

    @contextmanager
    def onloaded(self, **models: nn.Module) -> Iterator[None]:
        """Have the text encoders, by name, on the device; afterwards they wait where the preset says so."""
        for name, model in models.items():
            self.onload(name, model)
        try:
            yield
        finally:
            if self.preset and self.preset.offload_encoders:
                for name in models:
                    self.offload(name)

    def offload_all(self) -> None:
        """Send all models to wait on the CPU."""
        for name in list(self._onloaded):
            self.offload(name)

    def _make_room(self, name: str, needed: int) -> None:
        assert self.preset is not None
        others = [other for other in self._onloaded if other != name]
        already = weight_bytes(tensors(self._onloaded[name])) if name in self._onloaded else 0
        while others and self.tracker.current - already + needed > self.preset.weights:
            self.offload(others.pop(0))


def _largest_onloaded(groups: list[ModuleGroup]) -> int:
    """Bytes of groups that are on the device together: what is outside of blocks, a block and the next."""
    sizes = sorted((weight_bytes(group_tensors(group)) for group in groups), reverse=True)
    ahead = 2 if groups[0].stream is not None else 1
    return sum(sizes[: ahead + 1])


def _groups(model: nn.Module) -> Iterator[ModuleGroup]:
    """The groups in which a model visits the device, each once."""
    seen: set[int] = set()
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        hook = registry and registry.get_hook("group_offloading")
        if isinstance(hook, GroupOffloadingHook) and id(hook.group) not in seen:
            seen.add(id(hook.group))
            yield hook.group


def _group(model: nn.Module, device: torch.device, kind: str, stream: bool) -> None:
    apply_group_offloading(
        model,
        onload_device=device,
        offload_device=CPU,
        offload_type=f"{kind}_level",
        num_blocks_per_group=1 if kind == "block" else None,
        use_stream=stream,
        # Copies pinned beforehand are rounded up to powers of two: half as much main memory again.
        low_cpu_mem_usage=stream,
    )


def _move(model: nn.Module, device: torch.device) -> None:
    """Move a model, unless it is there; some that are quantized refuse even that."""
    where = next(model.parameters()).device
    if where.type != device.type or device.index not in (None, where.index):
        model.to(device)
