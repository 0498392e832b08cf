"""Record the outputs of a FLUX transformer's blocks, with their gradients."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from editkit.errors import EditkitError

Features = dict[int, Tensor]
"""Outputs of blocks for image tokens, BLD, by the block's number, double blocks first."""


@contextmanager
def record_features(
    transformer: FluxTransformer2DModel, layers: Collection[int], tokens: int
) -> Iterator[Features]:
    """Record the outputs of blocks in the last forward pass within the block.

    Args:
        transformer: the transformer to watch.
        layers: numbers of the blocks, double blocks first.
        tokens: number of image tokens, counted from the first of the canvas.

    Raises:
        EditkitError: where there is no such block, or blocks are compiled or cached.
    """
    blocks: list[nn.Module] = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    if unknown := [layer for layer in layers if layer >= len(blocks)]:
        last = len(blocks) - 1
        raise EditkitError(
            f"The network has no block {unknown[0]}; its {last + 1} blocks count from 0 to {last}."
        )
    if any(block._compiled_call_impl is not None for block in blocks):
        raise EditkitError("Features cannot be read from compiled blocks; load with compile=false.")
    if transformer.is_cache_enabled:
        raise EditkitError("Features cannot be read where blocks are cached; load without cache.")
    found: Features = {}

    def keep(layer: int, made: tuple[Tensor, Tensor]) -> None:
        found[layer] = made[1][:, :tokens]  # the text's output comes first

    with ExitStack() as stack:
        for layer in layers:
            hook = blocks[layer].register_forward_hook(lambda _, __, made, layer=layer: keep(layer, made))
            stack.callback(hook.remove)
        yield found
