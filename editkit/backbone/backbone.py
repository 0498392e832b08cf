"""Define the protocol of a loaded FLUX family, through which core and methods use it."""

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
    from editkit.backbone.transformer import Transformer, WeightReader
    from editkit.flow import TimeShift
    from editkit.types import Canvas, Plan, Text


class TextEncoders(Protocol):
    """The two text encoders that a family's transformers share."""

    clip: nn.Module
    t5: nn.Module


class Backbone(Protocol):
    """A FLUX family: one VAE, one pair of text encoders, and a transformer for each role.

    Each model loads when it is first needed.

    Attributes:
        name: name of the family; a folder or Hub id where it was loaded from one.
        device: the device on which everything runs.
        dtype: precision of all weights.
        transformer_device: device of new transformers; it differs from `device` until they are sharded.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    transformer_device: torch.device

    # Components.

    @property
    def roles(self) -> Collection[str]:
        """Names of the family's roles."""

    def role(self, name: str) -> Role:
        """Return the role's record.

        Raises:
            EditkitError: where the family has no such role.
        """

    def transformer(self, role: str) -> Transformer:
        """Return the role's transformer; roles with the same key share one.

        Raises:
            EditkitError: where its weights are missing or do not fit.
        """

    @property
    def encoders(self) -> TextEncoders:
        """The family's text encoders."""

    def load(self, role: str) -> None:
        """Load everything that an edit in this role needs."""

    def use_components_of(self, role: str) -> None:
        """Take the autoencoder and the text encoders from this role's folder."""

    def empty_transformer(self, role: str, start: str | None = None) -> WeightReader | None:
        """Give a role a transformer without values, on the meta device; return what reads its weights.

        With `start` they are that role's, behind a wider input, as after `widen`. Returns None, and changes
        nothing, where rows cannot be read alone, such as those of quantized weights.
        """

    def free(self, autoencoder: bool = True) -> None:
        """Drop the text encoders and the autoencoder from memory, where they can be loaded again."""

    # Text and pixels.

    def text(self, prompts: Sequence[str], placeholders: Sequence[str] = ()) -> Text:
        """Encode prompts; those that were encoded before come from the cache.

        Args:
            prompts: B prompts.
            placeholders: words that are tokens of their own for the sequence encoder; see `has_room_for`.
        """

    def has_room_for(self, placeholders: Sequence[str]) -> bool:
        """Whether the sequence encoder's embedding has spare rows for these words."""

    def encode(self, pixels_BCHW: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Encode pixels as packed latents BLC.

        Args:
            pixels_BCHW: pixels in [0, 1]; H and W are multiples of 16.
            generators: one for each picture, to sample the posterior; its mode where None.
        """

    def sampled_latents(self, generators: Sequence[torch.Generator]) -> AbstractContextManager[None]:
        """Sample the posterior wherever pictures are encoded within the block, one generator a picture."""

    def mask(self, mask_B1HW: Tensor) -> Tensor:
        """Pack a mask of 0 and 1 as FLUX.1 Fill takes it, B L 256; every pixel is kept."""

    def inpainting(
        self, pixels_BCHW: Tensor, mask_B1HW: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """Encode what FLUX.1 Fill joins to the noise on channels, B L 320.

        These are the latents of the picture with the masked area grayed out, and the mask. The arguments are
        those of `encode` and `mask`.
        """

    def decode(self, tokens_BLC: Tensor, width: int, height: int) -> Tensor:
        """Decode packed latents BLC of a canvas of this size into pixels BCHW in [0, 1]."""

    @property
    def panels_alone(self) -> bool:
        """Whether an answer is decoded without its neighbours on the canvas."""

    def grid_ids(self, width: int, height: int, *, image: int = 0, left: int = 0, top: int = 0) -> Tensor:
        """Make the position ids (image, row, column), L3, of a picture; sizes and offsets are in pixels."""

    def cache_texts(self, folder: Path) -> None:
        """Keep encoded prompts in a subfolder whose name depends on these encoders."""

    # The flow.

    def record_values(self, role: str, tokens: int) -> AbstractContextManager[dict[str, Tensor]]:
        """Record the attention values of this many image tokens, by layer, within the block."""

    def inject_values(
        self, role: str, recorded: dict[str, Tensor], places_L: Tensor
    ) -> AbstractContextManager[None]:
        """Replace attention values of the image tokens where `places_L` is True, within the block."""

    def record_features(
        self, role: str, layers: Collection[int], tokens: int
    ) -> AbstractContextManager[dict[int, Tensor]]:
        """Record the outputs of blocks, BLD, for the first image tokens of the last pass within the block.

        Args:
            role: the transformer's role.
            layers: numbers of the blocks, double blocks first.
            tokens: number of image tokens, counted from the first of the canvas.

        Raises:
            EditkitError: where there is no such block, or blocks are compiled or cached.
        """

    def noise(self, canvas: Canvas, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw packed noise BLC for the canvas, with one generator for each image."""

    def reset_caches(self) -> None:
        """Forget the activations of earlier steps, which a cache that skips blocks keeps."""

    def skipping_blocks(self, role: str, cache: dict[str, Any] | None) -> AbstractContextManager[None]:
        """Let a cache, as the loading option `cache`, skip blocks of a role's transformer; None: as loaded.

        Raises:
            EditkitError: where the cache does not fit, or blocks are compiled.
        """

    def velocity(self, x_BLC: Tensor, t: float | Tensor, plan: Plan, guidance: float | Tensor) -> Tensor:
        """Predict the velocity of the canvas' tokens, BLC.

        Args:
            x_BLC: packed latents.
            t: a time, or one for each image, (B,); 1 is noise and 0 is the picture.
            plan: canvas, conditioning and role.
            guidance: distilled guidance, or one for each image, (B,); ignored by networks that take none.
        """

    def sizes(self, role: str) -> Sequence[tuple[int, int]]:
        """Return the (width, height) pairs that the role was trained at."""

    def defaults(self, role: str) -> tuple[int, float]:
        """Return the role's default steps and guidance."""

    def time_shift(self, role: str) -> TimeShift:
        """Return the role's time shift, from its own scheduler's config."""

    @property
    def base(self) -> str | None:
        """The published family whose transformers have these shapes; None where there is none."""

    # Adapters and weights.

    def load_adapter(
        self, role: str, path: Path, name: str, load: Callable[[Transformer, Path, str], object]
    ) -> None:
        """Load an adapter with `load` onto a role's transformer, beside others; its hash is for recipes."""

    def unload_adapter(self, role: str, name: str) -> None:
        """Remove an adapter from a role's transformer, so that its memory is free again."""

    def set_adapters(self, role: str, names: Sequence[str], scales: Sequence[float] | None = None) -> None:
        """Activate exactly these adapters of a role's transformer; no names give the base model.

        Raises:
            EditkitError: for an adapter that was not loaded, or another number of scales than of names.
        """

    def widen(self, role: str, start: str) -> None:
        """Give a role another role's transformer with a wider input; the new channels have no effect yet.

        Raises:
            EditkitError: where a role is missing, or an input of these channels cannot be widened to those.
        """

    def look_left(self, role: str, pixels: int) -> None:
        """Let heads that copy a context picture copy a diptych's left half instead, `pixels` away."""

    def save(self, role: str, folder: Path) -> None:
        """Write one role as a diffusers pipeline folder in bf16, whole or not at all."""

    # What a recipe tells.

    def vae_hash(self) -> str:
        """Hash the weights that latents depend on."""

    def fingerprints(self, role: str) -> dict[str, str]:
        """Return the hashes of the weights that a role uses, by component."""

    def loading(self) -> dict[str, Any]:
        """Return the loading options that differ from the defaults, in JSON's types."""

    def remarks(self, instruction: str) -> list[str]:
        """Return warnings about an instruction, such as words that the encoders do not know."""

    def remarks_on_picture(self, picture_HW3: NDArray[np.uint8]) -> list[str]:
        """Return warnings about a picture to edit, uint8 sRGB; loads nothing."""


class MetaBackbone(Backbone, Protocol):
    """A backbone on the meta device: its tensors have shapes and no values."""

    def component_bytes(self, role: str, itemsize: int) -> Mapping[str, float]:
        """Return the bytes of the autoencoder and of each text encoder as they are loaded, by name."""

    def weight_bytes(self, role: str, itemsize: int) -> float:
        """Return the mean bytes of a weight of the role's transformer, plain ones of `itemsize` bytes."""
