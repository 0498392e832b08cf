"""Where weights are: on the device, or waiting on the CPU until they are needed."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from math import inf

import torch
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.group_offloading import GroupOffloadingHook, ModuleGroup
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from backbones.low_memory import Preset
from editkit.errors import EditkitError

CPU = torch.device("cpu")


class Ledger:
    """Weights on the device, entered as they come and struck out as they go.

    Attributes:
        peak: bytes, the most so far.
    """

    def __init__(self) -> None:
        self._there: dict[object, list[Tensor]] = {}
        self._bytes: dict[object, int] = {}
        self.peak = 0

    @property
    def now(self) -> int:
        """Bytes on the device."""
        return sum(self._bytes.values())

    def tensors(self) -> Iterator[Tensor]:
        """All weights on the device."""
        return chain.from_iterable(self._there.values())

    def come(self, owner: object, tensors: Iterable[Tensor]) -> None:
        """Enter what a model or a group of it holds."""
        self._there[owner] = list(tensors)
        self._bytes[owner] = size(self._there[owner])
        self.peak = max(self.peak, self.now)

    def go(self, owner: object) -> None:
        """Strike it out, where it is there."""
        self._there.pop(owner, None)
        self._bytes.pop(owner, None)


class CountedGroup(ModuleGroup):  # type: ignore[misc]
    """diffusers' group of modules that travel together, which tells a ledger."""

    ledger: Ledger

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def onload_(self) -> None:
        self.ledger.come(self, group_tensors(self))
        super().onload_()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def offload_(self) -> None:
        super().offload_()
        self.ledger.go(self)


class Placement:
    """Brings models to the device before they are used, within a preset's bound.

    Args:
        device: where they are used.
        preset: the bound; without one, models go to the device when they are put and stay there.
    """

    def __init__(self, device: torch.device, preset: Preset | None) -> None:
        self.device, self.preset = device, preset
        self.ledger = Ledger()
        self._whole: dict[str, nn.Module] = {}  # those on the device, the one used last at the end

    def put(
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
        bound, needed = self.preset.weights if self.preset else inf, size(tensors(model))
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

    def visit(self, name: str, model: nn.Module) -> None:
        """Have a model on the device, which sends others away where the bound asks for it."""
        if self.preset is None:
            return
        groups = list(_groups(model))
        if groups:
            for group in groups:
                if not isinstance(group, CountedGroup):
                    group.__class__ = CountedGroup
                    group.ledger = self.ledger
            self._make_room(name, _largest_visit(groups))
            return
        if self._whole.get(name) is not model:
            self.leave(name)
        self._make_room(name, size(tensors(model)))
        _move(model, self.device)
        self.ledger.come(name, tensors(model))
        self._whole.pop(name, None)
        self._whole[name] = model

    def leave(self, name: str) -> None:
        """Send a model to wait on the CPU, where it is on the device."""
        model = self._whole.pop(name, None)
        if model is not None:
            _move(model, CPU)
            self.ledger.go(name)

    def forget(self, name: str) -> None:
        """Strike out a model that is let go."""
        self._whole.pop(name, None)
        self.ledger.go(name)

    @contextmanager
    def visiting(self, **models: nn.Module) -> Iterator[None]:
        """Have the text encoders, by name, on the device; afterwards they wait where the preset says so."""
        for name, model in models.items():
            self.visit(name, model)
        try:
            yield
        finally:
            if self.preset and self.preset.encoders_wait:
                for name in models:
                    self.leave(name)

    def clear(self) -> None:
        """Send all models to wait on the CPU."""
        for name in list(self._whole):
            self.leave(name)

    def _make_room(self, name: str, needed: int) -> None:
        assert self.preset is not None
        others = [other for other in self._whole if other != name]
        already = size(tensors(self._whole[name])) if name in self._whole else 0
        while others and self.ledger.now - already + needed > self.preset.weights:
            self.leave(others.pop(0))


def tensors(model: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers of a model."""
    return chain(model.parameters(), model.buffers())


def group_tensors(group: ModuleGroup) -> Iterator[Tensor]:
    """The same of a group of modules."""
    return chain(chain.from_iterable(map(tensors, group.modules)), group.parameters, group.buffers)


def size(held: Iterable[Tensor]) -> int:
    """Bytes of weights, each counted once; of quantized ones, what they are packed in and their scales."""
    return sum(map(_bytes, {id(tensor): tensor for tensor in held}.values()))


def _bytes(tensor: Tensor) -> int:
    if is_traceable_wrapper_subclass(tensor):  # torchao's and quanto's, which look as large as they were
        names, _ = tensor.__tensor_flatten__()
        return sum(_bytes(getattr(tensor, name)) for name in names)
    state = getattr(tensor, "quant_state", None)  # bitsandbytes'
    scales = _bytes(state.absmax) if state is not None else 0
    return tensor.numel() * tensor.element_size() + scales


def _largest_visit(groups: list[ModuleGroup]) -> int:
    """Bytes of groups that are on the device together: what is outside of blocks, a block and the next."""
    sizes = sorted((size(group_tensors(group)) for group in groups), reverse=True)
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
