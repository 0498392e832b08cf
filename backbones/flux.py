"""Implement editkit's `Backbone` for a FLUX family: text, pixels and velocities."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from backbones import attention_values, block_features, context, devices, families, known_pictures
from backbones.attention_memory import AttentionMemory, use_memory
from backbones.encoding_cache import LruCache, TextCache
from backbones.latents import LatentCodec
from backbones.load_options import STEP_CACHES, LoadOptions
from backbones.loading import set_cache
from editkit import config
from editkit.backbone import Family
from editkit.errors import EditkitError
from editkit.key_values import CONDITIONAL, UNCONDITIONAL
from editkit.types import Conditioning, Plan, Text


class Flux(LatentCodec):
    """Runs a FLUX family; `editkit.backbone.Backbone` documents the methods."""

    def __init__(
        self, family: Family, device: torch.device, dtype: torch.dtype, options: LoadOptions | None = None
    ) -> None:
        super().__init__(family, device, dtype, options)
        self.contexts = context.ContextCache()
        self._texts: LruCache | TextCache = LruCache()
        self._has_room: dict[tuple[str, ...], bool] = {}

    def remarks(self, instruction: str) -> list[str]:
        """Return warnings about an instruction: unknown words, and words that are cut off."""
        remarks = []
        if strange := self.encoders.unknown_words(instruction):
            remarks.append(
                f"The backbone {self.name!r} does not know the word{'s' * (len(strange) > 1)} "
                f"{', '.join(dict.fromkeys(strange[:8]))}; it only knows ShapesWorld's words. "
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
            # Under autocast the transformer's first layers round them to bf16 anyway.
            low = torch.bfloat16 if cast_down else text.tokens_BTD.dtype
            return list(zip(text.tokens_BTD.to(low), text.pooled_BD.to(low), strict=True))

        cast_down = torch.is_autocast_enabled(self.device.type)
        found = self._texts.get_or_compute([(prompt, extra, cast_down) for prompt in prompts], make)
        tokens, pooled = zip(*found, strict=True)
        stacked = torch.stack(tokens), torch.stack(pooled)
        return Text(tokens_BTD=stacked[0].to(self.device), pooled_BD=stacked[1].to(self.device))

    def cache_texts(self, folder: Path) -> None:
        """Keep encoded prompts in a subfolder whose name depends on these encoders."""
        self._texts = TextCache(folder / f"texts-{self.encoders_hash()}")

    def has_room_for(self, placeholders: Sequence[str]) -> bool:
        extra = tuple(placeholders)
        if extra not in self._has_room:  # kept, since the encoders may be dropped
            self._has_room[extra] = self.encoders.has_room_for(extra)
        return self._has_room[extra]

    def record_values(
        self, role: str, tokens: int
    ) -> AbstractContextManager[attention_values.AttentionValues]:
        return attention_values.record_values(self.transformer(role), tokens)

    def inject_values(
        self, role: str, recorded: attention_values.AttentionValues, places_L: Tensor
    ) -> AbstractContextManager[None]:
        return attention_values.inject_values(self.transformer(role), recorded, places_L)

    def reset_caches(self) -> None:
        """Forget the activations of earlier steps, as diffusers' pipelines do after each picture."""
        for transformer in self.transformers.values():
            if transformer.is_cache_enabled:
                transformer._reset_stateful_cache()

    @contextmanager
    def skipping_blocks(self, role: str, cache: dict[str, Any] | None) -> Iterator[None]:
        if cache is None:
            yield
            return
        transformer = self.transformer(role)
        set_cache(transformer, cache, STEP_CACHES)
        try:
            yield
        finally:
            set_cache(transformer, self.options.cache)

    def _evict(self) -> None:
        self.contexts.clear()  # its gigabytes make room, and are of a transformer that may leave
        super()._evict()

    def record_features(
        self, role: str, layers: Collection[int], tokens: int
    ) -> AbstractContextManager[block_features.Features]:
        return block_features.record_features(self.transformer(role), layers, tokens)

    def velocity(self, x_BLC: Tensor, t: float | Tensor, plan: Plan, guidance: float | Tensor) -> Tensor:
        if plan.conditioning.text is not None:
            _check_widths(plan.conditioning.text, self.transformer(plan.role).config)
        if plan.conditioning.context_apart:
            return context.velocity(self, x_BLC, t, plan, guidance)
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
        time_B = _network_time(t, x_BLC.dtype).to(self.device).expand(batch)
        text_ids_T3 = slots.text.ids_T3
        if text_ids_T3 is None:
            text_ids_T3 = ids_L3.new_zeros(slots.text.tokens_BTD.shape[1], 3)
        attention: dict[str, Any] = {}
        if slots.valid_BN is not None:
            # The text comes first; all of its tokens are real.
            attended_BN = F.pad(slots.valid_BN, (len(text_ids_T3), 0), value=True)
            attention = {"attention_mask": attended_BN[:, None, None]}
        guidance_B = None
        if transformer.config.guidance_embeds:
            guidance_B = torch.as_tensor(guidance, device=self.device, dtype=torch.float32).expand(batch)
        branch = UNCONDITIONAL if slots.text is slots.negative else CONDITIONAL
        if memory := _memory(slots, branch, hidden_BLC.shape[1]):
            use_memory(transformer)
            attention["memory"] = memory
        with transformer.cache_context(branch) if transformer.is_cache_enabled else nullcontext():
            predicted_BLC = transformer(
                hidden_states=hidden_BLC,
                encoder_hidden_states=slots.text.tokens_BTD,
                pooled_projections=slots.text.pooled_BD,
                timestep=time_B,
                guidance=guidance_B,
                txt_ids=text_ids_T3,
                img_ids=ids_L3,
                joint_attention_kwargs=attention or None,
                return_dict=False,
            )[0]
        return cast(Tensor, predicted_BLC[:, :tokens])

    def save(self, role: str, folder: Path) -> None:
        from backbones import pipeline_folder  # diffusers' pipelines take seconds to import

        pipeline_folder.save(self, role, folder)


def _check_widths(text: Text, config: Any) -> None:
    """Check that text encoders and transformer belong together.

    Raises:
        EditkitError: where the transformer takes features of other widths.
    """
    given = text.tokens_BTD.shape[-1], text.pooled_BD.shape[-1]
    taken = config.joint_attention_dim, config.pooled_projection_dim
    if given != taken:
        raise EditkitError(
            f"T5 and CLIP give features of {given[0]} and {given[1]} numbers and the transformer takes "
            f"{taken[0]} and {taken[1]}; give text encoders and a transformer that belong together."
        )


def _network_time(t: float | Tensor, dtype: torch.dtype) -> Tensor:
    """Return the time that the transformer is given, rounded in half precision as by diffusers' pipelines.

    They round 1000 t. Black Forest Labs' sampler rounds t, which gives the network other times.
    """
    time = torch.as_tensor(t, dtype=torch.float32)
    return time if dtype == torch.float32 else (1000 * time).to(dtype) / 1000


def _memory(slots: Conditioning, branch: str, tokens: int) -> AttentionMemory | None:
    """Return what a pass over this many image tokens holds and keeps; None where nothing."""
    if slots.held is None and slots.kept is None:
        return None
    held, kept = (None if each is None else each.branch(branch) for each in (slots.held, slots.kept))
    return AttentionMemory(held=held, kept=kept, tokens=tokens)


def load_flux(
    name: str,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    loading: Mapping[str, Any] | None = None,
) -> Flux:
    """Load a backbone by name, local folder or Hub id; its weights load when they are first needed.

    Args:
        name: name of a backbone, a diffusers pipeline folder, or a Hub id.
        device: cpu, cuda or mps; the best one here where None.
        dtype: float32, bfloat16 or float16; fp32 on a CPU and bf16 elsewhere where None.
        loading: fields of `LoadOptions`.

    Raises:
        EditkitError: for an unknown name, device, dtype or option.
    """
    options = config.build(LoadOptions, loading or {})
    chosen = devices.choose_device(None if device is None else str(device))
    return Flux(families.find_family(name), chosen, devices.choose_dtype(dtype, chosen), options)
