"""Train a transformer whose weights are on the meta device until each process reads its own rows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import nan

import torch
from torch import Tensor, nn

from editkit.backbone import Transformer, WeightReader

WRAPPED = ".base_layer."
"""Part of a weight's name by which adapters' layers call the layer that they wrap."""


@contextmanager
def stand_ins(transformer: Transformer) -> Iterator[None]:
    """Let weights on the meta device be on the CPU within the block, where adapters are then made.

    Adapters follow the device of the layers that they wrap, and would have no values on the meta device. A
    stand-in has its weight's shape and takes the memory of one number, which is not finite: an adapter that
    began from the weights' values would not train unnoticed.
    """
    replaced = []
    for part in transformer.modules():
        for name, weight in part.named_parameters(recurse=False):
            if weight.is_meta:
                one = torch.tensor(nan, dtype=weight.dtype)
                part._parameters[name] = nn.Parameter(one.expand(weight.shape), weight.requires_grad)
                replaced.append((part, name, weight))
    try:
        yield
    finally:
        for part, name, weight in replaced:
            weight.requires_grad_(part._parameters[name].requires_grad)  # type: ignore[union-attr]
            part._parameters[name] = weight


def row_reader(objective: nn.Module, prefix: str, weights: WeightReader) -> Callable[[str, int, int], Tensor]:
    """Return what reads rows of an objective's parameter, by its name, first row, and row behind the last.

    Args:
        objective: has a transformer on the meta device, whose adapters and other parts are in memory.
        prefix: begins the names of the transformer's parameters.
        weights: reads the transformer's own weights.
    """
    beside = {name: p.detach().clone() for name, p in objective.named_parameters() if not p.is_meta}

    def rows(name: str, start: int, end: int) -> Tensor:
        if name in beside:
            return beside[name][start:end]
        return weights.rows(name.removeprefix(prefix).replace(WRAPPED, "."), start, end)

    return rows
