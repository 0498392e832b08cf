"""Turn pixels, masks and noise into the tokens of a FLUX transformer, and tokens back into pixels."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from backbones import packing
from backbones.components import Components
from backbones.encoding_cache import LruCache
from backbones.load_options import LoadOptions
from editkit.backbone import Family
from editkit.types import Canvas


class LatentCodec(Components):
    """Encodes and decodes with the autoencoder of `Components`; the arguments are the same."""

    def __init__(
        self, family: Family, device: torch.device, dtype: torch.dtype, options: LoadOptions | None = None
    ) -> None:
        super().__init__(family, device, dtype, options)
        self._latents = LruCache()
        self._sampling: Sequence[torch.Generator] | None = None

    @torch.no_grad()
    def encode(self, pixels_BCHW: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        pixels_BCHW = pixels_BCHW.to(self.device, torch.float32)
        generators = generators or self._sampling

        def make(places: list[int]) -> Tensor:
            scaled_BCHW = (pixels_BCHW[places] * 2 - 1).to(self.dtype)
            area = pixels_BCHW.shape[-1] * pixels_BCHW.shape[-2]
            vae, parts = self._vae_for(area), self._parts(scaled_BCHW, area)
            moments = [vae.encode(part_BCHW).latent_dist.parameters for part_BCHW in parts]
            posterior = DiagonalGaussianDistribution(torch.cat(moments))
            if generators is None:
                latents_BChw = posterior.mode()
            else:
                shape = posterior.mean.shape[1:]
                draws = [
                    torch.randn((1, *shape), generator=generators[place], dtype=self.dtype)
                    for place in places
                ]
                latents_BChw = posterior.mean + posterior.std * torch.cat(draws).to(self.device)
            config = vae.config
            return packing.pack((latents_BChw - config.shift_factor) * config.scaling_factor)

        if generators is not None:
            return make(list(range(len(pixels_BCHW))))
        keys = [
            hashlib.blake2b(pixels.cpu().numpy().tobytes(), digest_size=16).digest() for pixels in pixels_BCHW
        ]
        cast_down = torch.is_autocast_enabled(self.device.type)
        shaped = [(key, *pixels_BCHW.shape[-2:], cast_down) for key in keys]
        return torch.stack(self._latents.get_or_compute(shaped, lambda places: list(make(places))))

    @contextmanager
    def sampled_latents(self, generators: Sequence[torch.Generator]) -> Iterator[None]:
        before, self._sampling = self._sampling, generators
        try:
            yield
        finally:
            self._sampling = before

    def mask(self, mask_B1HW: Tensor) -> Tensor:
        return packing.pack_mask(mask_B1HW.to(self.device, self.dtype))

    def inpainting(
        self, pixels_BCHW: Tensor, mask_B1HW: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        hole_B1HW = mask_B1HW.to(self.device) > 0.5
        # Mid-gray is zero to the network.
        kept_BCHW = torch.where(hole_B1HW, 0.5, pixels_BCHW.to(self.device))
        return torch.cat((self.encode(kept_BCHW, generators), self.mask(hole_B1HW)), dim=-1)

    @torch.no_grad()
    def decode(self, tokens_BLC: Tensor, width: int, height: int) -> Tensor:
        config = self.vae.config
        latents_BChw = packing.unpack(tokens_BLC.to(self.dtype), width, height)
        latents_BChw = latents_BChw / config.scaling_factor + config.shift_factor
        vae, parts = self._vae_for(width * height), self._parts(latents_BChw, width * height)
        pixels_BCHW = torch.cat([vae.decode(part_BChw).sample for part_BChw in parts])
        return (pixels_BCHW.float() / 2 + 0.5).clamp(0, 1)

    def noise(self, canvas: Canvas, generators: Sequence[torch.Generator]) -> Tensor:
        channels = self.vae.config.latent_channels
        shape = (1, channels, canvas.height // packing.CELL, canvas.width // packing.CELL)
        draws = [torch.randn(shape, generator=generator, dtype=self.dtype) for generator in generators]
        return packing.pack(torch.cat(draws).to(self.device))

    def grid_ids(self, width: int, height: int, *, image: int = 0, left: int = 0, top: int = 0) -> Tensor:
        return packing.grid_ids(width, height, image=image, left=left, top=top).to(self.device)

    def _vae_for(self, area: int) -> AutoencoderKL:
        """Return the autoencoder on the device; it works in tiles for more pixels than a preset allows."""
        self.placement.onload("vae", self.vae)
        if preset := self.placement.preset:
            self.vae.use_tiling = area > preset.pixels
        return self.vae

    def _parts(self, batch: Tensor, area: int) -> tuple[Tensor, ...]:
        """Split a batch into as many pictures at once as a preset allows; `area` is pixels of a picture."""
        preset = self.placement.preset
        return torch.split(batch, max(1, preset.pixels // area) if preset else len(batch))
