"""A FLUX family behind editkit's `Backbone` contract: text, pixels and velocities."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray
from torch import Tensor

from backbones import attention_values, devices, families, known_pictures, packing
from backbones.components import Components
from backbones.encoding_cache import LruCache, TextCache
from backbones.load_options import LoadOptions
from editkit import config
from editkit.backbone import Family
from editkit.types import Canvas, Plan, Text


class Flux(Components):
    """`Components` at work. See `editkit.backbone.Backbone` for what each method promises."""

    def __init__(
        self, family: Family, device: torch.device, dtype: torch.dtype, options: LoadOptions | None = None
    ) -> None:
        super().__init__(family, device, dtype, options)
        self._texts: LruCache | TextCache = LruCache()
        self._latents = LruCache()
        self._has_room: dict[tuple[str, ...], bool] = {}

    def remarks(self, instruction: str) -> list[str]:
        """What a person should know about an instruction: words never learnt, words cut off."""
        remarks = []
        if strange := self.encoders.unknown_words(instruction):
            remarks.append(
                f"The backbone {self.name!r} does not know the word{'s' * (len(strange) > 1)} "
                f"{', '.join(dict.fromkeys(strange[:8]))}; it knows ShapesWorld's words alone. "
                f"For photographs and free instructions use the backbone 'flux1-dev'."
            )
        if self.encoders.too_long(instruction):
            remarks.append(
                f"The instruction is longer than {self.encoders.length} tokens; its end is not read."
            )
        return remarks

    def remarks_on_picture(self, picture_HW3: NDArray[np.uint8]) -> list[str]:
        return known_pictures.remarks(self.name, picture_HW3) if self.base == "tiny" else []

    def text(self, prompts: Sequence[str], placeholders: Sequence[str] = ()) -> Text:
        extra = tuple(placeholders)
        if self._encoders and self._encoders.t5.shared.weight.requires_grad:
            return self.encoders(prompts, extra)

        @torch.no_grad()
        def make(places: list[int]) -> list[tuple[Tensor, Tensor]]:
            with self.placement.onloaded(text_encoder=self.encoders.clip, text_encoder_2=self.encoders.t5):
                text = self.encoders([prompts[place] for place in places], extra)
            return list(zip(text.tokens_BTD, text.pooled_BD, strict=True))

        cast_down = torch.is_autocast_enabled(self.device.type)
        found = self._texts.get_or_compute([(prompt, extra, cast_down) for prompt in prompts], make)
        tokens, pooled = zip(*found, strict=True)
        stacked = torch.stack(tokens), torch.stack(pooled)
        return Text(tokens_BTD=stacked[0].to(self.device), pooled_BD=stacked[1].to(self.device))

    def cache_texts(self, folder: Path) -> None:
        """Keep every encoded prompt in a folder of its own for these encoders, below this one."""
        self._texts = TextCache(folder / f"texts-{self.encoders_hash()}")

    def has_room_for(self, placeholders: Sequence[str]) -> bool:
        extra = tuple(placeholders)
        if extra not in self._has_room:  # remembered, since encoders may be let go of
            self._has_room[extra] = self.encoders.has_room_for(extra)
        return self._has_room[extra]

    @torch.no_grad()
    def encode(self, pixels_BCHW: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        pixels_BCHW = pixels_BCHW.to(self.device, torch.float32)

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

    def _vae_for(self, area: int) -> AutoencoderKL:
        """The autoencoder on the device; tile by tile for pictures of more pixels than a preset allows."""
        self.placement.onload("vae", self.vae)
        if preset := self.placement.preset:
            self.vae.use_tiling = area > preset.pixels
        return self.vae

    def _parts(self, batch: Tensor, area: int) -> tuple[Tensor, ...]:
        """A batch in parts of as many pictures of this many pixels as a preset allows at once."""
        preset = self.placement.preset
        return torch.split(batch, max(1, preset.pixels // area) if preset else len(batch))

    def grid_ids(self, width: int, height: int, *, image: int = 0, left: int = 0, top: int = 0) -> Tensor:
        return packing.grid_ids(width, height, image=image, left=left, top=top).to(self.device)

    def record_values(
        self, role: str, tokens: int
    ) -> AbstractContextManager[attention_values.AttentionValues]:
        return attention_values.record_values(self.transformer(role), tokens)

    def inject_values(
        self, role: str, recorded: attention_values.AttentionValues, places_L: Tensor
    ) -> AbstractContextManager[None]:
        return attention_values.inject_values(self.transformer(role), recorded, places_L)

    def noise(self, canvas: Canvas, generators: Sequence[torch.Generator]) -> Tensor:
        channels = self.vae.config.latent_channels
        shape = (1, channels, canvas.height // packing.CELL, canvas.width // packing.CELL)
        draws = [torch.randn(shape, generator=generator, dtype=self.dtype) for generator in generators]
        return packing.pack(torch.cat(draws).to(self.device))

    def reset_caches(self) -> None:
        """What diffusers' pipelines do after each picture."""
        for transformer in self.transformers.values():
            if transformer.is_cache_enabled:
                transformer._reset_stateful_cache()

    def velocity(self, x_BLC: Tensor, t: float | Tensor, plan: Plan, guidance: float) -> Tensor:
        slots, transformer = plan.conditioning, self.onloaded_transformer(plan.role)
        if slots.text is None:
            raise ValueError(
                "the plan has no text yet; use Conditioner.plan, or Conditioner.with_text on this plan"
            )
        batch, tokens = x_BLC.shape[0], x_BLC.shape[1]
        hidden_BLC, ids_L3 = x_BLC, slots.ids_L3
        if ids_L3 is None:
            ids_L3 = self.grid_ids(plan.canvas.width, plan.canvas.height)
        if slots.channel_BLC is not None:
            hidden_BLC = torch.cat((hidden_BLC, slots.channel_BLC), dim=-1)
        if slots.sequence_BSC is not None and slots.sequence_ids_S3 is not None:
            hidden_BLC = torch.cat((hidden_BLC, slots.sequence_BSC), dim=1)
            ids_L3 = torch.cat((ids_L3, slots.sequence_ids_S3))
        time_B = torch.as_tensor(t, device=self.device, dtype=x_BLC.dtype).expand(batch)
        text_ids_T3 = slots.text.ids_T3
        if text_ids_T3 is None:
            text_ids_T3 = ids_L3.new_zeros(slots.text.tokens_BTD.shape[1], 3)
        attention = {}
        if slots.valid_BN is not None:
            # Text comes first, and is always there.
            attended_BN = F.pad(slots.valid_BN, (len(text_ids_T3), 0), value=True)
            attention = {"attention_mask": attended_BN[:, None, None]}
        guided = transformer.config.guidance_embeds
        context = "uncond" if slots.text is slots.negative else "cond"
        with transformer.cache_context(context) if transformer.is_cache_enabled else nullcontext():
            predicted_BLC = transformer(
                hidden_states=hidden_BLC,
                encoder_hidden_states=slots.text.tokens_BTD,
                pooled_projections=slots.text.pooled_BD,
                timestep=time_B,
                guidance=torch.full((batch,), guidance, device=self.device) if guided else None,
                txt_ids=text_ids_T3,
                img_ids=ids_L3,
                joint_attention_kwargs=attention or None,
                return_dict=False,
            )[0]
        return cast(Tensor, predicted_BLC[:, :tokens])

    def save(self, role: str, folder: Path) -> None:
        from backbones import pipeline_folder  # diffusers' pipelines take seconds to import

        pipeline_folder.save(self, role, folder)


def load(
    name: str,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    **options: Any,
) -> Flux:
    """A backbone by name, local folder or Hub id; weights load when first needed.

    Raises:
        EditkitError: for an unknown name, device, dtype or option.
    """
    chosen = devices.choose_device(None if device is None else str(device))
    loading = config.build(LoadOptions, options)
    return Flux(families.find_family(name), chosen, devices.choose_dtype(dtype, chosen), loading)
