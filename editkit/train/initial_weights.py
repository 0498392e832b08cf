"""The trainable weights of a transformer as a run found them, which can stand in for the current ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from editkit.backbone import Transformer
from editkit.train.distributed.fsdp import drop_copies, local_shard


class InitialWeights:
    """A copy of a transformer's trainable weights.

    Args:
        transformer: the transformer; its weights are copied now.
        root: the module that is trained as a whole, whose weights may be in shards.
    """

    def __init__(self, transformer: Transformer, root: nn.Module) -> None:
        self._transformer, self._root = transformer, root
        trained = [p.detach() for p in transformer.parameters() if p.requires_grad]
        self._pairs = [(local_shard(p), local_shard(p).clone()) for p in trained]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Use the copy within the block, without dropout.

        Weights are written in place, so no graph may reach from the block to its outside or into it.
        """
        training = self._transformer.training
        with torch.no_grad():
            now = [weights.clone() for weights, _ in self._pairs]
            for weights, before in self._pairs:
                weights.copy_(before)
        drop_copies(self._root)
        self._transformer.eval()
        try:
            yield
        finally:
            self._transformer.train(training)
            with torch.no_grad():
                for (weights, _), after in zip(self._pairs, now, strict=True):
                    weights.copy_(after)
            drop_copies(self._root)
