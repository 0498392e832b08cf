"""A FLUX family behind editkit's `Backbone` contract: the border to diffusers."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

from backbones import packing, sources
from backbones.loading import LOADING_ERRORS, LoadOptions, complete, load_transformer, place
from backbones.rotary import remember_positions
from backbones.specs import Family, Role
from backbones.text import Encoders
from editkit import adapters, config, recipe
from editkit.errors import EditkitError, first_sentence
from editkit.registry import unknown
from editkit.types import Canvas, Plan, Text

REMEMBERED = 256


class Memory(OrderedDict[Any, Any]):
    """The results used last; the oldest go first."""

    def recall(self, keys: Sequence[Any], make: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """A result for each key; `make` gets the places of those that are missing and returns theirs."""
        missing = list({key: place for place, key in enumerate(keys) if key not in self}.values())
        fresh = dict(zip([keys[place] for place in missing], make(missing) if missing else (), strict=True))
        found = [fresh[key] if key in fresh else self[key] for key in keys]
        for key, value in zip(keys, found, strict=True):
            self[key] = value
            self.move_to_end(key)
        while len(self) > REMEMBERED:
            self.popitem(last=False)
        return found


class Flux:
    """One VAE and one pair of text encoders, a transformer per role; each loads when first needed.

    Components are diffusers' and transformers' own, so their quantizers, offload and cache hooks, attention
    backends and LoRA formats apply.

    Args:
        family: what is loaded from where.
        device: where everything runs.
        dtype: of all weights.
        options: quantization, offload, attention, caching, compilation.
    """

    def __init__(
        self, family: Family, device: torch.device, dtype: torch.dtype, options: LoadOptions | None = None
    ) -> None:
        self.family, self.name, self.device, self.dtype = family, family.name, device, dtype
        self.options = options or LoadOptions()
        self._unsaved = False
        self.transformers: dict[str, FluxTransformer2DModel] = {}
        self._vae: AutoencoderKL | None = None
        self._encoders: Encoders | None = None
        self._texts, self._latents = Memory(), Memory()
        self._adapters: dict[str, str] = {}

    def role(self, name: str) -> Role:
        """The role's record.

        Raises:
            EditkitError: where the family has no such role.
        """
        if name not in self.family.roles:
            raise EditkitError(unknown(f"role of the backbone {self.name!r} called", name, self.family.roles))
        return self.family.roles[name]

    @property
    def roles(self) -> Collection[str]:
        return self.family.roles.keys()

    def sizes(self, role: str) -> Sequence[tuple[int, int]]:
        return self.role(role).sizes

    def defaults(self, role: str) -> tuple[int, float]:
        record = self.role(role)
        return record.steps, record.guidance or 0.0

    def fingerprints(self, role: str) -> dict[str, str]:
        """SHA-256 of every weight file that an edit in this role uses, by component."""
        if self._unsaved:
            return {"transformer": "unsaved"}
        first = self.folder(next(iter(self.roles)))
        folders = {
            "vae": first,
            "text_encoder": first,
            "text_encoder_2": first,
            "transformer": self.folder(role),
        }
        files = {part: sorted((folder / part).glob("*.safetensors")) for part, folder in folders.items()}
        if self.options.transformer:
            chosen = Path(self.options.transformer)
            files["transformer"] = sorted(chosen.glob("*.safetensors")) if chosen.is_dir() else [chosen]
        found = {part: "+".join(recipe.sha256(path) for path in paths) for part, paths in files.items()}
        return found | self._adapters_of(role)

    def load_adapter(self, role: str, path: Path, name: str) -> None:
        """Load a LoRA next to others on a role's transformer; a recipe names it by its hash."""
        adapters.load(self.transformer(role), path, name)
        self._adapters[name] = recipe.sha256(adapters.file(path))

    def _adapters_of(self, role: str) -> dict[str, str]:
        transformer = self.transformer(role)
        active = adapters.active(transformer)
        return {f"adapter {name} x{scale:g}": self._adapters.get(name, "unsaved") for name, scale in active.items()}

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

    def folder(self, role: str) -> Path:
        """The role's pipeline folder on this machine, fetched if need be."""
        record = self.role(role)
        return sources.fetch(record.source, record.licence)

    def _load(self, cls: Any, folder: Path, part: str) -> Any:
        options = {"subfolder": part, "dtype": self.dtype, "use_safetensors": True, "output_loading_info": True}
        try:
            # The encoders' files may hold more than FLUX needs: T5's decoder, CLIP's position ids.
            model = complete(*cls.from_pretrained(folder, **options), spare=part != "vae")
        except LOADING_ERRORS as error:
            raise EditkitError(f"The {part} in {folder} cannot be loaded ({first_sentence(error)}).") from error
        return model.to(self.device).eval().requires_grad_(False)

    def _tokenizer(self, folder: Path, part: str) -> Any:
        try:
            return AutoTokenizer.from_pretrained(folder, subfolder=part, local_files_only=True)
        except LOADING_ERRORS as error:
            raise EditkitError(f"The {part} in {folder} cannot be loaded ({first_sentence(error)}).") from error

    @property
    def vae(self) -> AutoencoderKL:
        """The family's autoencoder."""
        if self._vae is None:
            loaded = self._load(AutoencoderKL, self.folder(next(iter(self.family.roles))), "vae")
            # Convolutions run about a quarter faster in this layout.
            self._vae = loaded.to(memory_format=torch.channels_last)
        return self._vae

    def vae_hash(self) -> str:
        """Digest of the autoencoder's weights, which every latent depends on."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.vae.state_dict().items()):
            digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    @property
    def encoders(self) -> Encoders:
        """The family's text encoders."""
        if self._encoders is None:
            folder = self.folder(next(iter(self.family.roles)))
            self._encoders = Encoders(
                (self._tokenizer(folder, "tokenizer"), self._load(CLIPTextModel, folder, "text_encoder")),
                (self._tokenizer(folder, "tokenizer_2"), self._load(T5EncoderModel, folder, "text_encoder_2")),
                self.family.sequence_length,
            )
        return self._encoders

    def transformer(self, role: str) -> FluxTransformer2DModel:
        """The role's transformer; roles with one source share one."""
        record = self.role(role)
        if record.source not in self.transformers:
            loaded = load_transformer(self.options, lambda: self.folder(role), self.dtype)
            self._register(record.source, place(loaded, self.device, self.options))
        return self.transformers[record.source]

    def adopt(
        self,
        source: str,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderKL | None = None,
        encoders: Encoders | None = None,
    ) -> None:
        """Use these components, however they were made, where `source` would have been loaded."""
        self._register(source, transformer)
        self._vae, self._encoders, self._unsaved = vae or self._vae, encoders or self._encoders, True

    def _register(self, source: str, transformer: FluxTransformer2DModel) -> None:
        remember_positions(transformer)
        self.transformers[source] = transformer

    def text(self, prompts: Sequence[str]) -> Text:
        if self.encoders.t5.shared.weight.requires_grad:
            return self.encoders(prompts)

        @torch.no_grad()
        def make(places: list[int]) -> list[tuple[Tensor, Tensor]]:
            text = self.encoders([prompts[place] for place in places])
            return list(zip(text.tokens_BTD, text.pooled_BD, strict=True))

        found = self._texts.recall(prompts, make)
        tokens, pooled = zip(*found, strict=True)
        return Text(tokens_BTD=torch.stack(tokens), pooled_BD=torch.stack(pooled))

    @torch.no_grad()
    def encode(self, pixels_BCHW: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        pixels_BCHW = pixels_BCHW.to(self.device, torch.float32)

        def make(places: list[int]) -> Tensor:
            scaled_BCHW = (pixels_BCHW[places] * 2 - 1).to(self.dtype)
            posterior = self.vae.encode(scaled_BCHW).latent_dist
            if generators is None:
                latents_BChw = posterior.mode()
            else:
                shape = posterior.mean.shape[1:]
                draws = [
                    torch.randn((1, *shape), generator=generators[place], dtype=self.dtype)
                    for place in places
                ]
                latents_BChw = posterior.mean + posterior.std * torch.cat(draws).to(self.device)
            config = self.vae.config
            return packing.pack((latents_BChw - config.shift_factor) * config.scaling_factor)

        if generators is not None:
            return make(list(range(len(pixels_BCHW))))
        keys = [
            hashlib.blake2b(pixels.cpu().numpy().tobytes(), digest_size=16).digest() for pixels in pixels_BCHW
        ]
        shaped = [(key, *pixels_BCHW.shape[-2:]) for key in keys]
        return torch.stack(self._latents.recall(shaped, lambda places: list(make(places))))

    @torch.no_grad()
    def decode(self, tokens_BLC: Tensor, width: int, height: int) -> Tensor:
        config = self.vae.config
        latents_BChw = packing.unpack(tokens_BLC.to(self.dtype), width, height)
        pixels_BCHW = self.vae.decode(latents_BChw / config.scaling_factor + config.shift_factor).sample
        return cast(Tensor, (pixels_BCHW.float() / 2 + 0.5).clamp(0, 1))

    def grid_ids(self, width: int, height: int, *, image: int = 0, left: int = 0, top: int = 0) -> Tensor:
        return packing.grid_ids(width, height, image=image, left=left, top=top).to(self.device)

    def noise(self, canvas: Canvas, generators: Sequence[torch.Generator]) -> Tensor:
        channels = self.vae.config.latent_channels
        shape = (1, channels, canvas.height // packing.CELL, canvas.width // packing.CELL)
        draws = [torch.randn(shape, generator=generator, dtype=self.dtype) for generator in generators]
        for transformer in self.transformers.values():
            if transformer.is_cache_enabled:
                transformer._reset_stateful_cache()  # what diffusers' pipelines do after each picture
        return packing.pack(torch.cat(draws).to(self.device))

    def velocity(self, x_BLC: Tensor, t: float | Tensor, plan: Plan, guidance: float) -> Tensor:
        slots, transformer = plan.conditioning, self.transformer(plan.role)
        if slots.text is None:
            raise ValueError(
                "the plan has no text yet; use Conditioner.plan, or worded() on an arranged plan"
            )
        batch, tokens = x_BLC.shape[0], x_BLC.shape[1]
        hidden_BLC, ids_L3 = x_BLC, self.grid_ids(plan.canvas.width, plan.canvas.height)
        if slots.channel_BLC is not None:
            hidden_BLC = torch.cat((hidden_BLC, slots.channel_BLC), dim=-1)
        if slots.sequence_BSC is not None and slots.sequence_ids_S3 is not None:
            hidden_BLC = torch.cat((hidden_BLC, slots.sequence_BSC), dim=1)
            ids_L3 = torch.cat((ids_L3, slots.sequence_ids_S3))
        time_B = torch.as_tensor(t, device=self.device, dtype=x_BLC.dtype).expand(batch)
        guided = transformer.config.guidance_embeds
        context = "uncond" if slots.text is slots.negative else "cond"
        with transformer.cache_context(context) if transformer.is_cache_enabled else nullcontext():
            predicted_BLC = transformer(
                hidden_states=hidden_BLC,
                encoder_hidden_states=slots.text.tokens_BTD,
                pooled_projections=slots.text.pooled_BD,
                timestep=time_B,
                guidance=torch.full((batch,), guidance, device=self.device) if guided else None,
                txt_ids=ids_L3.new_zeros(slots.text.tokens_BTD.shape[1], 3),
                img_ids=ids_L3,
                return_dict=False,
            )[0]
        return cast(Tensor, predicted_BLC[:, :tokens])


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
    chosen = sources.device(None if device is None else str(device))
    loading = config.build(LoadOptions, options)
    return Flux(sources.family(name), chosen, sources.dtype(dtype, chosen), loading)
