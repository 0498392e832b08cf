"""Trains a FLUX autoencoder (AutoencoderKL) from random weights on ShapesWorld."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from backbones.loading import pretrained, untrained
from editkit.data import shapesworld
from editkit.errors import EditkitError
from editkit.train.job import FitConfig, Job


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """An autoencoder's training run."""

    recipe: str = "autoencoder"
    model: dict[str, Any] = field(default_factory=dict)
    """diffusers' AutoencoderKL config."""
    start: str = ""
    """Folder of an autoencoder to go on from; random weights where empty."""
    decoder_only: bool = False
    """Keep the encoder, so that latents stay what a trained transformer knows."""
    edges: float = 0.0
    """Weight of the L1 error of horizontal and vertical differences, where thin strokes and letters live."""
    kl: float = 1e-4
    """Weight of the KL term per latent element: just enough noise to keep the latents smooth."""
    whiten: float = 1e-2
    """Weight that holds each latent channel at mean 0 and standard deviation 1."""
    fit: FitConfig = field(default_factory=FitConfig)


class Reconstruction(nn.Module):
    """L1 and squared error of a picture through a sampled latent and back."""

    def __init__(self, vae: AutoencoderKL, config: AutoencoderConfig) -> None:
        super().__init__()
        self.vae, self.config = vae, config

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        config = self.config
        with torch.set_grad_enabled(not config.decoder_only and torch.is_grad_enabled()):
            posterior = self.vae.encode(pixels_BCHW).latent_dist
        decoded_BCHW = self.vae.decode(posterior.sample()).sample
        error = decoded_BCHW.float() - pixels_BCHW
        loss = error.abs().mean() + (error**2).mean()
        if config.edges:
            loss = loss + config.edges * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
        if config.decoder_only:
            return cast(Tensor, loss)
        mean_BChw = posterior.mean.float()
        deviation, average = torch.std_mean(mean_BChw, dim=(0, 2, 3))
        drift = (average**2).mean() + ((deviation - 1) ** 2).mean()
        kl = posterior.kl().float().mean() / mean_BChw[0].numel()
        return cast(Tensor, loss + config.kl * kl + config.whiten * drift)


class AutoencoderJob(Job):
    """Pictures in, a diffusers `vae` folder out."""

    def __init__(self, config: AutoencoderConfig) -> None:
        torch.manual_seed(config.fit.seed)
        self.vae = self._start(config)
        self.vae.encoder.requires_grad_(not config.decoder_only)
        self.objective = Reconstruction(self.vae, config)

    @staticmethod
    def _start(config: AutoencoderConfig) -> AutoencoderKL:
        if not config.start:
            return untrained(AutoencoderKL, config.model, "model")
        if not (Path(config.start) / "config.json").is_file():
            raise EditkitError(
                f"start={config.start} holds no autoencoder; train configs/tiny/vae.yaml first."
            )
        return pretrained(AutoencoderKL, config.start, "", torch.float32).requires_grad_(True)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Pictures of edits and of captions in turn, pixels in [-1, 1]; captions show all styles evenly."""
        pictures = []
        for index in indices:
            kind = "caption" if index % 2 else None
            example = shapesworld.example(shapesworld.TRAINING_START + index // 2, kind)
            scene = example.source if index % 4 == 2 and example.source else example.answer
            pictures.append(shapesworld.render(scene))
        pixels_BHWC = torch.from_numpy(np.stack(pictures)).float() / 127.5 - 1
        return pixels_BHWC.permute(0, 3, 1, 2).contiguous().to(self.vae.device)

    def export(self, folder: Path) -> None:
        """Save in diffusers layout, bf16."""
        copy = AutoencoderKL.from_config(self.vae.config)
        copy.load_state_dict(self.vae.state_dict())
        copy.to(torch.bfloat16).save_pretrained(folder / "vae")


CONFIG, JOB = AutoencoderConfig, AutoencoderJob
