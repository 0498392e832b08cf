"""Count the bytes of weights on the device."""

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from diffusers.hooks.group_offloading import ModuleGroup
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


class WeightTracker:
    """Counts the weights on the device; owners add theirs when they arrive and remove them when they leave.

    Attributes:
        peak: the largest number of bytes so far.
    """

    def __init__(self) -> None:
        self._tensors: dict[object, list[Tensor]] = {}
        self._bytes: dict[object, int] = {}
        self.peak = 0

    @property
    def current(self) -> int:
        """Bytes on the device now."""
        return sum(self._bytes.values())

    def tensors(self) -> Iterator[Tensor]:
        """Return all weights on the device."""
        return chain.from_iterable(self._tensors.values())

    def add(self, owner: object, tensors: Iterable[Tensor]) -> None:
        """Add the weights of a model, or of a group of its modules."""
        self._tensors[owner] = list(tensors)
        self._bytes[owner] = weight_bytes(self._tensors[owner])
        self.peak = max(self.peak, self.current)

    def remove(self, owner: object) -> None:
        """Remove the weights of an owner, if it has any."""
        self._tensors.pop(owner, None)
        self._bytes.pop(owner, None)


class TrackedGroup(ModuleGroup):  # type: ignore[misc]
    """A group of modules of diffusers' offload that reports its moves to a tracker."""

    tracker: WeightTracker

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def onload_(self) -> None:
        self.tracker.add(self, group_tensors(self))
        super().onload_()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def offload_(self) -> None:
        super().offload_()
        self.tracker.remove(self)


def tensors(model: nn.Module) -> Iterator[Tensor]:
    """Return the parameters and buffers of a model."""
    return chain(model.parameters(), model.buffers())


def group_tensors(group: ModuleGroup) -> Iterator[Tensor]:
    """Return the parameters and buffers of a group of modules."""
    return chain(chain.from_iterable(map(tensors, group.modules)), group.parameters, group.buffers)


def weight_bytes(held: Iterable[Tensor]) -> int:
    """Sum the bytes of weights, each counted once; quantized ones count as packed, with their scales."""
    return sum(map(_bytes, {id(tensor): tensor for tensor in held}.values()))


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of one tensor."""
    if is_traceable_wrapper_subclass(tensor):  # torchao's and quanto's report their old size
        names, _ = tensor.__tensor_flatten__()
        return sum(_bytes(getattr(tensor, name)) for name in names)
    state = getattr(tensor, "quant_state", None)  # of bitsandbytes
    scales = _bytes(state.absmax) if state is not None else 0
    return tensor.numel() * tensor.element_size() + scales
