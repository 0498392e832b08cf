"""Record and replace the attention values of a FLUX transformer's image tokens."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from diffusers import FluxTransformer2DModel
from torch import Tensor

from editkit.errors import EditkitError

AttentionValues = dict[str, Tensor]
"""Output BLD of each attention layer's value projection for the image tokens, by the layer's name."""


@contextmanager
def record_values(transformer: FluxTransformer2DModel, tokens: int) -> Iterator[AttentionValues]:
    """Record the attention values of the last forward pass within the block.

    Args:
        transformer: the transformer to watch.
        tokens: number of image tokens, which stand at the end of the sequence.

    Raises:
        EditkitError: where the blocks are compiled or cached, so that the values cannot be read.
    """
    values: AttentionValues = {}

    def keep(name: str, made_BND: Tensor) -> None:
        # A double block's layer gets image tokens only; a single block's gets the text before them, too.
        values[name] = made_BND[:, -tokens:]

    with _watched(transformer, keep):
        yield values


@contextmanager
def inject_values(
    transformer: FluxTransformer2DModel, values: AttentionValues, places_L: Tensor
) -> Iterator[None]:
    """Replace the attention values of some image tokens in every forward pass within the block.

    Args:
        transformer: the transformer to change.
        values: the result of `record_values`, with one token for every True in `places_L`.
        places_L: bool over all image tokens, True where a token gets the recorded value.

    Raises:
        EditkitError: where the blocks are compiled or cached.
    """

    def replace(name: str, made_BND: Tensor) -> Tensor:
        changed_BND = made_BND.clone()
        changed_BND[:, -len(places_L) :][:, places_L] = values[name].to(made_BND.dtype)
        return changed_BND

    with _watched(transformer, replace):
        yield


@contextmanager
def _watched(
    transformer: FluxTransformer2DModel, see: Callable[[str, Tensor], Tensor | None]
) -> Iterator[None]:
    """Pass the output of every value projection to `see`, whose result replaces it unless it is None."""
    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    if any(block._compiled_call_impl is not None for block in blocks):
        raise EditkitError("Attention values cannot be read from compiled blocks; load with compile=false.")
    if transformer.is_cache_enabled:
        raise EditkitError(
            "Attention values cannot be read where blocks are skipped; leave out the loading option `cache` "
            "or speed=cache=..."
        )
    with ExitStack() as stack:
        for name, module in transformer.named_modules():
            if name.endswith(".attn.to_v"):
                hook = module.register_forward_hook(lambda _, __, made, name=name: see(name, made))
                stack.callback(hook.remove)
        yield
