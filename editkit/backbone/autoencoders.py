"""Define the protocol of FLUX's autoencoder for training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Posterior(Protocol):
    """The encoder's result: a Gaussian for each element of the latents BChw."""

    mean: Tensor

    def sample(self) -> Tensor:
        """Draw latents BChw."""

    def kl(self) -> Tensor:
        """Return the divergence from a standard Gaussian, summed over the latents of a picture, (B,)."""


class Autoencoders(Protocol):
    """Creates, loads, runs and saves FLUX's autoencoder; see `backbones.autoencoder`."""

    def create(self, config: Mapping[str, Any]) -> nn.Module: ...
    def make_linear(self, vae: nn.Module, pixels_BCHW: Tensor, power: float) -> None: ...
    def load(self, folder: str) -> nn.Module: ...
    def encode(self, vae: nn.Module, pixels_BCHW: Tensor) -> Posterior: ...
    def decode(self, vae: nn.Module, latents_BChw: Tensor) -> Tensor: ...
    def save(self, vae: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None: ...
