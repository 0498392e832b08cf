"""A loaded FLUX family, as the core and methods see it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from editkit.backbone.records import Role
    from editkit.backbone.transformer import Transformer
    from editkit.flow import TimeShift
    from editkit.types import Canvas, Plan, Text


class TextEncoders(Protocol):
    """The pair of text encoders that a family's transformers share."""

    clip: nn.Module
    t5: nn.Module


class Backbone(Protocol):
    """A FLUX family: one VAE, one pair of text encoders, a transformer per role.

    Each loads when it is first needed.

    Attributes:
        name: of the family; a folder or Hub id where it was loaded from one.
        device: where everything runs.
        dtype: of all weights.
        transformer_device: where transformers are put, which is elsewhere until they are in shards.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    transformer_device: torch.device

    # Components.

    @property
    def roles(self) -> Collection[str]:
        """Names of the transformers that it has."""

    def role(self, name: str) -> Role:
        """The role's record.

        Raises:
            EditkitError: where the family has no such role.
        """

    def transformer(self, role: str) -> Transformer:
        """The role's transformer; roles with one key share one.

        Raises:
            EditkitError: where its weights cannot be had or do not fit.
        """

    @property
    def encoders(self) -> TextEncoders:
        """The family's text encoders."""

    def load(self, role: str) -> None:
        """Load everything that an edit in this role needs."""

    def use_parts_of(self, role: str) -> None:
        """Take the autoencoder and the text encoders from this role's folder."""

    def free(self) -> None:
        """Let go of the autoencoder and the text encoders, where they can be loaded again when needed."""

    # Text and pixels.

    def text(self, prompts: Sequence[str], placeholders: Sequence[str] = ()) -> Text:
        """Encode prompts, from memory where they were encoded before.

        Placeholders are words that are tokens of their own to the sequence encoder; see `has_room_for`.
        """

    def has_room_for(self, placeholders: Sequence[str]) -> bool:
        """Whether the sequence encoder's embedding has rows to spare for these words."""

    def encode(self, pixels_BCHW: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Pixels in [0, 1], sides multiples of 16, to packed latents BLC: posterior mode, or a sample."""

    def mask(self, mask_B1HW: Tensor) -> Tensor:
        """A mask of 0 and 1 as FLUX.1 Fill takes it, BLC: every pixel is kept."""

    def inpainting(
        self, pixels_BCHW: Tensor, mask_B1HW: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """What FLUX.1 Fill joins to the noise, BLC: the picture outside the mask, encoded, and the mask."""

    def decode(self, tokens_BLC: Tensor, width: int, height: int) -> Tensor:
        """Packed latents back to pixels in [0, 1], BCHW."""

    @property
    def panels_alone(self) -> bool:
        """Whether an answer is decoded without what stands beside it on its canvas."""

    def grid_ids(self, width: int, height: int, *, image: int = 0, left: int = 0, top: int = 0) -> Tensor:
        """Position ids L3 of a picture of this size in pixels; offsets are in pixels too."""

    def cache_texts(self, folder: Path) -> None:
        """Keep every encoded prompt in a folder of its own for these encoders, below this one."""

    # The flow.

    def record_values(self, role: str, tokens: int) -> AbstractContextManager[dict[str, Tensor]]:
        """Collects the attention values of this many image tokens, by layer, in the forward pass within."""

    def inject_values(
        self, role: str, recorded: dict[str, Tensor], places_L: Tensor
    ) -> AbstractContextManager[None]:
        """Gives some image tokens other attention values in the forward passes within."""

    def noise(self, canvas: Canvas, generators: Sequence[torch.Generator]) -> Tensor:
        """Packed noise BLC, one generator an image."""

    def reset_caches(self) -> None:
        """Forget earlier steps, where the loading option `cache` makes transformers remember them."""

    def velocity(self, x_BLC: Tensor, t: float | Tensor, plan: Plan, guidance: float) -> Tensor:
        """The role's prediction over the canvas' tokens, BLC; t is one time or one per image."""

    def sizes(self, role: str) -> Sequence[tuple[int, int]]:
        """(width, height) pairs that the role was trained at."""

    def defaults(self, role: str) -> tuple[int, float]:
        """The role's steps and guidance."""

    def time_shift(self, role: str) -> TimeShift:
        """How the role's sampler moves times, by its own scheduler's config."""

    @property
    def base(self) -> str | None:
        """The known family whose transformers these are by their shapes; None where it is none."""

    # Adapters and weights.

    def load_adapter(
        self, role: str, path: Path, name: str, load: Callable[[Transformer, Path, str], object]
    ) -> None:
        """Load an adapter by `load` next to others on a role's transformer; a recipe names it by its hash."""

    def set_adapters(self, role: str, names: Sequence[str], scales: Sequence[float] | None = None) -> None:
        """Switch a role's transformer to exactly these adapters; none at all gives the base model.

        Raises:
            EditkitError: for an adapter that was not loaded, or another number of scales than of names.
        """

    def widen(self, role: str, start: str) -> None:
        """Give a role a transformer that begins as another role's; its wider input has no effect yet.

        Raises:
            EditkitError: where a role is missing, or no way is known from the one's channels to the other's.
        """

    def save(self, role: str, folder: Path) -> None:
        """Write one role as a diffusers pipeline folder in bf16, whole or not at all."""

    # What a recipe tells.

    def vae_hash(self) -> str:
        """Digest of the weights that latents depend on."""

    def fingerprints(self, role: str) -> dict[str, str]:
        """Hashes of the weights behind a role, by component."""

    def loading(self) -> dict[str, Any]:
        """The loading options that are not the default ones, in JSON's types."""

    def remarks(self, instruction: str) -> list[str]:
        """What a person should know about an instruction before trusting the result."""

    def remarks_on_picture(self, picture_HW3: NDArray[np.uint8]) -> list[str]:
        """What a person should know about a picture to edit, sRGB in levels of 255; loads nothing."""


class MetaBackbone(Backbone, Protocol):
    """A backbone on the meta device, of shapes without weights."""

    def component_parameters(self, role: str) -> Mapping[str, int]:
        """Parameters of the autoencoder and the text encoders, by part."""
