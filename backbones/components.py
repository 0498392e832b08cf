"""Hold a FLUX family's models: the transformers, and the autoencoder and text encoders that they share."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import AutoTokenizer

from backbones import component_files, hub, scheduler
from backbones.folders import LOADING_ERRORS
from backbones.load_options import LoadOptions
from backbones.roles import RoleTransformers
from backbones.text import Encoders
from editkit import atomic_files
from editkit.backbone import Family
from editkit.errors import EditkitError, first_sentence
from editkit.flow import FLUX_DEV, TimeShift


class Components(RoleTransformers):
    """Holds one VAE, one pair of text encoders, and a transformer for each role; each loads on first use.

    All models are diffusers' and transformers' own classes. So their quantizers, offload hooks, cache hooks,
    attention backends and LoRA formats apply. The arguments are those of `RoleTransformers`.
    """

    def __init__(
        self, family: Family, device: torch.device, dtype: torch.dtype, options: LoadOptions | None = None
    ) -> None:
        super().__init__(family, device, dtype, options)
        self._own_parts = True  # the shared components can be loaded again from a folder
        self._home: str | None = None
        self._vae: AutoencoderKL | None = None
        self._encoders: Encoders | None = None

    @property
    def base(self) -> str | None:
        return self.family.base

    def time_shift(self, role: str) -> TimeShift:
        if self._unsaved:
            return FLUX_DEV
        # A single file holds no scheduler, and the pipeline's own transformer need not be here for it.
        single = self.options.replacement(role) or self.role(role).file
        return scheduler.time_shift(self.home if single else self.folder(role))

    def fingerprints(self, role: str) -> dict[str, str]:
        """Return the SHA-256 of every weight file that an edit in this role uses, by component."""
        if self._unsaved:
            return {"transformer": "unsaved"}
        places = {part: self._component_path(part) for part in component_files.COMPONENTS}
        role_of_weights = self._source_role(role) or role
        places["transformer"] = self.options.replacement(role_of_weights) or self._own_path(role_of_weights)
        found = {
            part: "+".join(map(atomic_files.sha256, _weight_files(place))) for part, place in places.items()
        }
        return found | self._adapter_hashes(role)

    def use_components_of(self, role: str) -> None:
        """Take the VAE and the text encoders from this role's folder, so that no other one is needed."""
        if self._home is None:
            self._home = role if role in self.roles else next(iter(self.roles))

    def load(self, role: str) -> None:
        """Load everything that an edit in this role needs; otherwise each model loads on first use."""
        self.use_components_of(role)
        self.transformer(role)
        _ = self.vae, self.encoders

    @cached_property
    def home(self) -> Path:
        """The folder of the VAE, the text encoders and their tokenizers, without replaced components."""
        self.use_components_of("")
        assert self._home is not None
        record = self.role(self._home)
        own = [part for part in component_files.COMPONENTS if self.options.component(part) is None]
        return hub.fetch(record.source, record.licence, hub.file_patterns(own, *hub.TOKENIZERS))

    def _component_path(self, part: str) -> Path:
        """Return the file or folder of the VAE or a text encoder."""
        return self.options.component(part) or self.home / part

    def _load(self, part: str) -> Any:
        quantized = bool(self.options.quantizer(part))
        if quantized:
            self.placement.offload_all()  # it is quantized on the device; its size is not known yet
        loaded = component_files.load_component(
            self.options, part, lambda: self.home, self.dtype, self.device
        )
        self.placement.place(loaded, self.device, level="leaf")
        if quantized:
            self.placement.onload(part, loaded)
        return loaded

    def _tokenizer(self, folder: Path, part: str) -> Any:
        try:
            return AutoTokenizer.from_pretrained(folder, subfolder=part, local_files_only=True)
        except LOADING_ERRORS as error:
            raise EditkitError(
                f"The {part} in {folder} cannot be loaded ({first_sentence(error)})."
            ) from error

    @property
    def vae(self) -> AutoencoderKL:
        """The family's autoencoder."""
        if self._vae is None:
            loaded = self._load("vae")
            # Convolutions run faster in this layout.
            self._vae = loaded.to(memory_format=torch.channels_last)
        return self._vae

    def vae_hash(self) -> str:
        """Hash the weights that latents depend on: the autoencoder's, without its decoder's."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.vae.state_dict().items()):
            if name.startswith(("decoder.", "post_quant_conv.")):
                continue
            digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def encoders_hash(self) -> str:
        """Hash what encoded prompts depend on: the text encoders' files, precision, quantizers, length."""
        files = [
            path
            for part in ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
            for path in _files(
                self._component_path(part) if part in component_files.COMPONENTS else self.home / part
            )
        ]
        about = [self.family.sequence_length, str(self.dtype), *map(atomic_files.sha256, files)]
        about += [repr(kind) for part in component_files.COMPONENTS if (kind := self.options.quantizer(part))]
        return hashlib.blake2b(repr(about).encode(), digest_size=12).hexdigest()

    def free(self, autoencoder: bool = True) -> None:
        """Drop the text encoders and the autoencoder from memory, where they can be loaded again."""
        if self._own_parts:
            self._encoders = None
            if autoencoder:
                self._vae = None
            for part in component_files.COMPONENTS:
                if autoencoder or part != "vae":
                    self.placement.forget(part)

    @property
    def encoders(self) -> Encoders:
        """The family's text encoders with their tokenizers."""
        if self._encoders is None:
            folder = self.home
            self._encoders = Encoders(
                (self._tokenizer(folder, "tokenizer"), self._load("text_encoder")),
                (self._tokenizer(folder, "tokenizer_2"), self._load("text_encoder_2")),
                self.family.sequence_length,
            )
        return self._encoders

    def set_components(
        self,
        key: str,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderKL | None = None,
        encoders: Encoders | None = None,
    ) -> None:
        """Use these models as the transformer of the roles with this key, and as the shared components."""
        self._register(key, transformer)
        self._unloadable.add(key)
        self._vae, self._encoders, self._unsaved = vae or self._vae, encoders or self._encoders, True
        self._own_parts &= vae is None and encoders is None


def _files(place: Path) -> list[Path]:
    """List all files of a component."""
    return sorted(place.iterdir()) if place.is_dir() else [place]


def _weight_files(place: Path) -> list[Path]:
    """List the weight files of a component."""
    return sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
