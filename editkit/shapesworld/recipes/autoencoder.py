"""Train a FLUX autoencoder with 8x reduction on ShapesWorld's pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from editkit.backbone import Autoencoders, provider
from editkit.errors import EditkitError
from editkit.shapesworld import linear_autoencoder
from editkit.train.config import FitConfig
from editkit.train.job import Job


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """An autoencoder's training run."""

    recipe: str = "autoencoder"
    model: dict[str, Any] = field(default_factory=dict)
    """diffusers' AutoencoderKL config."""
    start: str = ""
    """Folder of an autoencoder to go on from; random weights where empty."""
    kl: float = 1e-4
    """Weight of the KL term per latent element: just enough noise to keep the latents smooth."""
    whiten: float = 1e-2
    """Weight that holds each latent channel at mean 0 and standard deviation 1."""
    fit: FitConfig = field(default_factory=FitConfig)


class Reconstruction(nn.Module):
    """L1 and squared error of a picture through a sampled latent and back."""

    def __init__(self, flux: Autoencoders, vae: nn.Module, config: AutoencoderConfig) -> None:
        super().__init__()
        self.flux, self.vae, self.config = flux, vae, config

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the loss of pixels BCHW in [-1, 1]."""
        posterior = self.flux.encode(self.vae, pixels_BCHW)
        error = self.flux.decode(self.vae, posterior.sample()).float() - pixels_BCHW
        mean_BChw = posterior.mean.float()
        deviation, average = torch.std_mean(mean_BChw, dim=(0, 2, 3))
        drift = (average**2).mean() + ((deviation - 1) ** 2).mean()
        kl = posterior.kl().float().mean() / mean_BChw[0].numel()
        return error.abs().mean() + (error**2).mean() + self.config.kl * kl + self.config.whiten * drift


class AutoencoderJob(Job):
    """Pictures in, a diffusers `vae` folder out."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.settings = config
        torch.manual_seed(config.fit.seed)
        self._flux: Autoencoders = provider().autoencoders
        self.vae = self._start(config)
        self.objective = Reconstruction(self._flux, self.vae, config)

    def _start(self, config: AutoencoderConfig) -> nn.Module:
        if not config.start:
            return self._flux.create(config.model)
        if not (Path(config.start) / "config.json").is_file():
            raise EditkitError(
                f"start={config.start} holds no autoencoder; give a folder with its config.json."
            )
        return self._flux.load(config.start)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Pixels BCHW in [-1, 1]."""
        levels_BCHW = np.stack([linear_autoencoder.picture(index) for index in indices])
        device = next(self.vae.parameters()).device
        return (torch.from_numpy(levels_BCHW).float() / 127.5 - 1).to(device)

    def export(self, folder: Path) -> None:
        """Save in diffusers layout, bf16."""
        self._flux.save(self.vae, self.vae.state_dict(), folder / "vae")


CONFIG, JOB = AutoencoderConfig, AutoencoderJob
