"""What a FLUX family offers to methods."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from editkit.types import Plan, Text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from editkit.flow import TimeShift
    from editkit.types import Canvas


class Backbone(Protocol):
    """A FLUX family: one VAE, one pair of text encoders, a transformer per role."""

    name: str
    device: torch.device

    @property
    def roles(self) -> Collection[str]:
        """Names of the transformers that it has."""

    def load(self, role: str) -> None:
        """Load everything that an edit in this role needs."""

    def settle(self, role: str) -> None:
        """Say which role will be used, so that shared parts come from its own folder."""

    def text(self, prompts: Sequence[str], placeholders: Sequence[str] = ()) -> Text:
        """Encode prompts, from memory where they were encoded before.

        Placeholders are words that are tokens of their own to the sequence encoder; see `takes`.
        """

    def takes(self, placeholders: Sequence[str]) -> bool:
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

    def recorded_values(self, role: str, tokens: int) -> AbstractContextManager[dict[str, Tensor]]:
        """Collects the attention values of this many image tokens, by layer, in the forward pass within."""

    def injected_values(
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

    def fingerprints(self, role: str) -> dict[str, str]:
        """Hashes of the weights behind a role, by component."""

    def loading(self) -> dict[str, Any]:
        """The loading options that are not the default ones, in JSON's types."""

    def remarks(self, instruction: str) -> list[str]:
        """What a person should know about an instruction before trusting the result."""
