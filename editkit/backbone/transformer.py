"""Define the protocols of a FLUX transformer, a module with diffusers' adapter methods, and of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class WeightReader(Protocol):
    """Reads weights of a transformer from its files."""

    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Read rows of a weight, from `start` to before `end`, as they are in the file."""


class TransformerConfig(Protocol):
    """The sizes of a transformer's input and output."""

    @property
    def in_channels(self) -> int:
        """Number of channels of a token that the transformer takes."""

    @property
    def guidance_embeds(self) -> bool:
        """Whether it takes a guidance."""

    @property
    def num_attention_heads(self) -> int:
        """Number of attention heads."""

    @property
    def attention_head_dim(self) -> int:
        """Width of an attention head."""


class Transformer(Protocol):
    """The part of diffusers' FluxTransformer2DModel that core and methods use."""

    training: bool
    x_embedder: nn.Module
    transformer_blocks: Iterable[nn.Module]
    single_transformer_blocks: Iterable[nn.Module]

    @property
    def config(self) -> TransformerConfig:
        """The config that it was built from."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of its weights."""

    # As every torch module has them.

    def modules(self) -> Iterator[nn.Module]:
        """Yield the transformer itself and all modules in it."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield names and modules."""

    def get_submodule(self, target: str, /) -> nn.Module:
        """Return the module of this name."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield all weights."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield names and weights."""

    def requires_grad_(self, requires_grad: bool = True, /) -> object:
        """Make all weights trainable, or none."""

    def to(self, dtype: torch.dtype, /) -> object:
        """Change the precision of all weights, in place."""

    def train(self, mode: bool = True, /) -> object:
        """Switch to training, or to inference."""

    def eval(self) -> object:
        """Switch to inference."""

    # As diffusers' models have them.

    def add_adapter(self, adapter_config: Any, *, adapter_name: str) -> None:
        """Add a new adapter by peft's config."""

    def load_lora_adapter(
        self,
        pretrained_model_name_or_path_or_dict: dict[str, Tensor],
        *,
        prefix: str,
        adapter_name: str,
        metadata: Any,
    ) -> object:
        """Add a LoRA's tensors; `metadata` is peft's config as a dict, or None."""

    def delete_adapters(self, adapter_names: str, /) -> None:
        """Remove an adapter."""

    def unload_lora(self) -> None:
        """Remove the layers that carried adapters."""

    def enable_gradient_checkpointing(self, function: Callable[..., Any] | None, /) -> None:
        """Compute activations again in the backward pass, with torch's function or the given one."""
