"""What the core and methods use of a FLUX transformer: a torch module with diffusers' adapter methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class TransformerConfig(Protocol):
    """The sizes of a transformer's input and output."""

    @property
    def in_channels(self) -> int:
        """Width of a token that it takes."""


class Transformer(Protocol):
    """diffusers' FluxTransformer2DModel, as far as others than `backbones` look at it."""

    training: bool
    x_embedder: nn.Module
    transformer_blocks: Iterable[nn.Module]
    single_transformer_blocks: Iterable[nn.Module]

    @property
    def config(self) -> TransformerConfig:
        """What it was made from."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""

    # As every torch module has them.

    def modules(self) -> Iterator[nn.Module]:
        """Itself and all modules within."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The same with their names."""

    def get_submodule(self, target: str, /) -> nn.Module:
        """The module of a name."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same with their names."""

    def requires_grad_(self, requires_grad: bool = True, /) -> object:
        """Let all weights train, or none."""

    def to(self, dtype: torch.dtype, /) -> object:
        """Change the precision of all weights, in place."""

    def train(self, mode: bool = True, /) -> object:
        """Switch to training, or back."""

    def eval(self) -> object:
        """Switch to inference."""

    # As diffusers' models have them.

    def add_adapter(self, adapter_config: Any, *, adapter_name: str) -> None:
        """Put a fresh adapter of peft's config on it."""

    def load_lora_adapter(
        self,
        pretrained_model_name_or_path_or_dict: dict[str, Tensor],
        *,
        prefix: str,
        adapter_name: str,
        metadata: Any,
    ) -> object:
        """Put a LoRA's tensors on it; `metadata` is peft's config as a dict, or None."""

    def delete_adapters(self, adapter_names: str, /) -> None:
        """Take an adapter off."""

    def unload_lora(self) -> None:
        """Take the layers off that carried adapters."""

    def enable_gradient_checkpointing(self, function: Callable[..., Any] | None, /) -> None:
        """Compute activations again in the backward pass, by torch's way or the one given."""
