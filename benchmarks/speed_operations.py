"""Count a transformer's operations by torch's FlopCounterMode, once for each shape of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from backbones.attention_memory import AttentionMemory

T = TypeVar("T")


def counted(call: Callable[[], T]) -> tuple[float, T]:
    """Count the operations of a call, and return its result too."""
    # The counter knows matrix products, which attention is in this kernel.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        made = call()
    return float(counter.get_total_flops()), made


class Operations:
    """Adds up the operations of a module's calls.

    Operations depend on shapes only, so that a shape is counted once; counting takes several times as long as
    computing. Where a cache may skip blocks, each call is counted.

    Args:
        module: a transformer; its calls are watched within `watched`.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._costs: dict[Hashable, float] = {}
        self.total = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count the calls within the block, from 0."""
        plain, self.total = self._module.forward, 0.0

        def forward(*args: Any, **named: Any) -> Any:
            shapes = tuple(_shape(leaf) for leaf in tree_leaves((args, sorted(named.items()))))
            skipping = getattr(self._module, "is_cache_enabled", False)
            if shapes in self._costs and not skipping:
                cost, made = self._costs[shapes], plain(*args, **named)
            else:
                cost, made = counted(lambda: plain(*args, **named))
            if not skipping:
                self._costs[shapes] = cost
            self.total += cost
            return made

        self._module.forward = forward
        try:
            yield
        finally:
            self._module.forward = plain


def _shape(leaf: object) -> Hashable:
    """Return the shape of a tensor, or of a memory's first held key; None for everything else."""
    if isinstance(leaf, Tensor):
        return leaf.shape
    if isinstance(leaf, AttentionMemory) and leaf.held:
        return next(iter(leaf.held.values()))[0].shape
    return None
