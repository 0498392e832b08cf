"""Trains a FLUX autoencoder on ShapesWorld, and its decoder on what edits end at."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from editkit import shapesworld
from editkit.backbone import Autoencoders, provider
from editkit.errors import EditkitError
from editkit.shapesworld.recipes import final_latents
from editkit.shapesworld.recipes.final_latents import EndingsConfig
from editkit.train.config import FitConfig
from editkit.train.job import Job

SEEN = 2000
"""Pictures by whose colours a linear encoder is whitened."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """An autoencoder's training run."""

    recipe: str = "autoencoder"
    model: dict[str, Any] = field(default_factory=dict)
    """diffusers' AutoencoderKL config."""
    start: str = ""
    """Folder of an autoencoder to go on from; random weights where empty."""
    start_share: float = 0.0
    """Share of the start's weights in what is exported, where training costs what the start could do: between
    the two weights both abilities are often nearly whole (WiSE-FT, arXiv 2109.01903)."""
    linear: float | None = None
    """Write the encoder down as a linear map instead of training it (backbones.linear_encoder); the number is
    the power to which differences between cells are whitened."""
    decoder_only: bool = False
    """Keep the encoder, so that latents stay what a trained transformer knows."""
    noise: float = 0.0
    """Largest deviation of noise on latents while the decoder trains; each picture draws its own. A decoder
    that has seen noise settles cells on flat colours, so that a transformer need only be nearly right."""
    edges: float = 0.0
    """Weight of the L1 error of horizontal and vertical differences, where thin strokes and letters live."""
    kl: float = 1e-4
    """Weight of the KL term per latent element: just enough noise to keep the latents smooth."""
    whiten: float = 1e-2
    """Weight that holds each latent channel at mean 0 and standard deviation 1."""
    endings: dict[str, EndingsConfig] = field(default_factory=dict)
    """Edits by method, of which the decoder learns to make the true answers, out of what they ended at."""
    endings_share: float = 0.75
    """Share of samples that are of these, where there are any."""
    cache: str = "out/cache"
    """Folder in which they are kept."""
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if (self.endings or self.linear is not None) and not self.decoder_only:
            raise ValueError("endings and a linear encoder need an encoder that stays; set decoder_only")
        for name in ("start_share", "endings_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], not {getattr(self, name)}")
        if self.start_share and not self.start:
            raise ValueError("start_share needs a start")


class Reconstruction(nn.Module):
    """L1 and squared error of a picture through a sampled latent and back, or out of a given latent."""

    def __init__(self, flux: Autoencoders, vae: nn.Module, config: AutoencoderConfig) -> None:
        super().__init__()
        self.flux, self.vae, self.config = flux, vae, config

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Of pixels BCHW in [-1, 1] and latents NChw, which stand for the first N of them."""
        config, (pixels_BCHW, given_NChw) = self.config, batch
        given = len(given_NChw)
        with torch.set_grad_enabled(not config.decoder_only and torch.is_grad_enabled()):
            posterior = self.flux.encode(self.vae, pixels_BCHW[given:])
        sampled_BChw = posterior.sample()
        if config.noise:
            sizes_B = config.noise * torch.rand(len(sampled_BChw), 1, 1, 1, device=sampled_BChw.device)
            sampled_BChw = sampled_BChw + sizes_B * torch.randn_like(sampled_BChw)
        latents_BChw = torch.cat((given_NChw, sampled_BChw))
        decoded_BCHW = self.flux.decode(self.vae, latents_BChw)
        error = decoded_BCHW.float() - pixels_BCHW
        loss = error.abs().mean() + (error**2).mean()
        if config.edges:
            loss = loss + config.edges * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
        if config.decoder_only:
            return loss
        mean_BChw = posterior.mean.float()
        deviation, average = torch.std_mean(mean_BChw, dim=(0, 2, 3))
        drift = (average**2).mean() + ((deviation - 1) ** 2).mean()
        kl = posterior.kl().float().mean() / mean_BChw[0].numel()
        return loss + config.kl * kl + config.whiten * drift


class AutoencoderJob(Job):
    """Pictures in, a diffusers `vae` folder out."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.settings = config
        torch.manual_seed(config.fit.seed)
        self._flux: Autoencoders = provider().autoencoders
        self.vae = self._start(config)
        self._before = {name: tensor.clone() for name, tensor in self.vae.state_dict().items()}
        self._kept = config.start_share
        if config.decoder_only:
            self._flux.freeze_encoder(self.vae)
        self.objective = Reconstruction(self._flux, self.vae, config)
        self._share = config.endings_share if config.endings else 0.0
        self._latents, self._answers = self._ended(config)

    def _start(self, config: AutoencoderConfig) -> nn.Module:
        if not config.start:
            made = self._flux.create(config.model)
            if config.linear is not None:
                seen = torch.from_numpy(np.stack([_picture(index) for index in range(SEEN)])) / 127.5 - 1
                self._flux.make_linear(made, seen, config.linear)
            return made
        if not (Path(config.start) / "config.json").is_file():
            raise EditkitError(
                f"start={config.start} holds no autoencoder; train configs/tiny/vae.yaml first."
            )
        return self._flux.load(config.start)

    def _ended(self, config: AutoencoderConfig) -> tuple[Tensor, Tensor]:
        """Latents that edits ended at, as the decoder takes them, and levels of the true answers."""
        if not config.endings:
            return torch.empty(0), torch.empty(0)
        parts = [
            final_latents.recorded(name, each, Path(config.cache)) for name, each in config.endings.items()
        ]
        tokens_NLC, levels_NCHW = (torch.cat(each) for each in zip(*parts, strict=True))
        height, width = levels_NCHW.shape[-2:]
        return self._flux.latents(self.vae, tokens_NLC, width, height), levels_NCHW

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Pixels in [-1, 1], true answers to edits first, and the latents that these edits ended at."""
        share = self._share
        ended = [index for index in indices if int((index + 1) * share) > int(index * share)]
        drawn = [_picture(index) for index in indices if index not in ended]
        places = [random.Random(f"ending {index}").randrange(len(self._answers)) for index in ended]
        answers_NCHW = self._answers[places]
        levels_BCHW = torch.cat((answers_NCHW, torch.from_numpy(np.stack(drawn)))) if drawn else answers_NCHW
        pixels_BCHW = levels_BCHW.float() / 127.5 - 1
        device = next(self.vae.parameters()).device
        return pixels_BCHW.to(device), self._latents[places].float().to(device)

    def export(self, folder: Path) -> None:
        """Save in diffusers layout, bf16."""
        now = self.vae.state_dict().items()
        state = {name: after.lerp(self._before[name].to(after), self._kept) for name, after in now}
        self._flux.save(self.vae, state, folder / "vae")


def _picture(index: int) -> NDArray[np.uint8]:
    """Levels CHW of edits and of captions in turn; captions show all styles evenly."""
    kind = "caption" if index % 2 else None
    example = shapesworld.example(shapesworld.TRAINING_START + index // 2, kind)
    scene = example.source if index % 4 == 2 and example.source else example.answer
    return np.ascontiguousarray(shapesworld.render(scene).transpose(2, 0, 1))


CONFIG, JOB = AutoencoderConfig, AutoencoderJob
