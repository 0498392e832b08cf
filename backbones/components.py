"""A FLUX family's models: loaded when first needed, switched by role, adapted by LoRA."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import AutoTokenizer

from backbones import hub, parts
from backbones.encoding_cache import remember_positions
from backbones.folders import LOADING_ERRORS
from backbones.loading import LoadOptions, load_transformer, place
from backbones.specs import Family, Role
from backbones.text import Encoders
from backbones.widening import widened
from editkit import adapters, atomic_files
from editkit.errors import EditkitError, first_sentence, unknown


class Components:
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
        self.transformer_device = device
        """Where transformers are put, which is elsewhere until they are in shards."""
        self._unsaved = False
        self._own_parts = True  # the autoencoder and the text encoders are those of a folder
        self._home: str | None = None
        self.transformers: dict[str, FluxTransformer2DModel] = {}
        self._vae: AutoencoderKL | None = None
        self._encoders: Encoders | None = None
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

    @property
    def panels_alone(self) -> bool:
        return self.family.panels_alone

    def sizes(self, role: str) -> Sequence[tuple[int, int]]:
        return self.role(role).sizes

    def defaults(self, role: str) -> tuple[int, float]:
        record = self.role(role)
        return record.steps, record.guidance or 0.0

    def fingerprints(self, role: str) -> dict[str, str]:
        """SHA-256 of every weight file that an edit in this role uses, by component."""
        if self._unsaved:
            return {"transformer": "unsaved"}
        places = {part: self._place(part) for part in parts.PARTS}
        role_of_weights = self._start(role) or role
        places["transformer"] = self.options.instead(role_of_weights) or self._own(role_of_weights)
        found = {part: "+".join(map(atomic_files.sha256, _weights(place))) for part, place in places.items()}
        return found | self._adapters_of(role)

    def loading(self) -> dict[str, Any]:
        """The loading options that are not the default ones, in JSON's types."""
        usual = asdict(type(self.options)())
        chosen = {key: value for key, value in asdict(self.options).items() if value != usual[key]}
        found: dict[str, Any] = json.loads(json.dumps(chosen, default=str))
        return found

    def load_adapter(
        self, role: str, path: Path, name: str, load: Callable[[Any, Path, str], object] = adapters.load
    ) -> None:
        """Load an adapter next to others on a role's transformer; a recipe names it by its hash."""
        load(self.transformer(role), path, name)
        self._adapters[name] = atomic_files.sha256(adapters.file(path))

    def wear(self, role: str, names: Sequence[str], scales: Sequence[float] | None = None) -> None:
        """Switch a role's transformer to exactly these adapters; one that is not loaded yet wears none."""
        if names or (role in self.roles and self.role(role).key in self.transformers):
            adapters.enable(self.transformer(role), names, scales)

    def _adapters_of(self, role: str) -> dict[str, str]:
        transformer = self.transformer(role)
        active = adapters.active(transformer)
        return {
            f"adapter {name} x{scale:g}": self._adapters.get(name, "unsaved")
            for name, scale in active.items()
        }

    def settle(self, role: str) -> None:
        """Take the VAE and the text encoders from this role's folder, so that it needs no other role's."""
        if self._home is None:
            self._home = role if role in self.roles else next(iter(self.roles))

    def load(self, role: str) -> None:
        """Load everything that an edit in this role needs, which is otherwise done when it is first used."""
        self.settle(role)
        self.transformer(role)
        _ = self.vae, self.encoders

    @cached_property
    def home(self) -> Path:
        """The folder of the VAE, the text encoders and their tokenizers, without what the options replace."""
        self.settle("")
        assert self._home is not None
        record = self.role(self._home)
        own = [part for part in parts.PARTS if self.options.part(part) is None]
        return hub.fetch(record.source, record.licence, hub.weights(own, *hub.TOKENIZERS))

    def folder(self, role: str) -> Path:
        """The role's pipeline folder on this machine, its transformer fetched if need be."""
        record = self.role(role)
        return hub.fetch(record.source, record.licence, hub.weights(["transformer"]))

    def _place(self, part: str) -> Path:
        """The file or folder of the VAE or a text encoder."""
        return self.options.part(part) or self.home / part

    def _load(self, part: str) -> Any:
        return parts.load(self.options, part, lambda: self.home, self.dtype).to(self.device)

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
            # Convolutions run about a quarter faster in this layout.
            self._vae = loaded.to(memory_format=torch.channels_last)
        return self._vae

    def vae_hash(self) -> str:
        """Digest of the weights that latents depend on: the autoencoder's without its decoder."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.vae.state_dict().items()):
            if name.startswith(("decoder.", "post_quant_conv.")):
                continue
            digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def encoders_hash(self) -> str:
        """Digest of the text encoders' files, precision and length, which every encoded prompt depends on."""
        files = [
            path
            for part in ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
            for path in _files(self._place(part) if part in parts.PARTS else self.home / part)
        ]
        about = [self.family.sequence_length, str(self.dtype), *map(atomic_files.sha256, files)]
        return hashlib.blake2b(repr(about).encode(), digest_size=12).hexdigest()

    def free(self) -> None:
        """Let go of the autoencoder and the text encoders, where they can be loaded again when needed."""
        if self._own_parts:
            self._vae = self._encoders = None

    @property
    def encoders(self) -> Encoders:
        """The family's text encoders."""
        if self._encoders is None:
            folder = self.home
            self._encoders = Encoders(
                (self._tokenizer(folder, "tokenizer"), self._load("text_encoder")),
                (self._tokenizer(folder, "tokenizer_2"), self._load("text_encoder_2")),
                self.family.sequence_length,
            )
        return self._encoders

    def transformer(self, role: str) -> FluxTransformer2DModel:
        """The role's transformer; roles with one key share one."""
        record = self.role(role)
        if record.key not in self.transformers:
            if start := self._start(role):
                loaded = widened(self._apart(start), record.in_channels)
            else:
                loaded = self._load_transformer(role)
            if loaded.config.in_channels != record.in_channels:
                raise EditkitError(
                    f"The transformer given takes {loaded.config.in_channels} channels, the role {role!r} of "
                    f"{self.name!r} {record.in_channels}; name files by role, as transformer={{{role}: ...}}."
                )
            self._register(record.key, place(loaded, self.transformer_device, self.options))
        return self.transformers[record.key]

    def _start(self, role: str) -> str | None:
        """The role whose transformer this one's is, but for a wider input."""
        own = None if self.options.instead(role) else self.role(role).start
        return self.options.start(role) or own

    def _apart(self, role: str) -> FluxTransformer2DModel:
        """A role's transformer to take weights from: that in use, or another where hooks move its weights.

        Raises:
            EditkitError: where it is itself another role's.
        """
        if self._start(role):
            raise EditkitError(f"{self.name} has no weights of its own for the role {role!r}; name another.")
        if self.options.offload == "none":
            return self.transformer(role)
        return self._load_transformer(role)

    def _load_transformer(self, role: str) -> FluxTransformer2DModel:
        device = self.transformer_device
        return load_transformer(self.options, role, lambda: self._own(role), self.dtype, device)

    def _own(self, role: str) -> Path:
        """The role's transformer on this machine: a folder of its pipeline, or a file apart from it."""
        record = self.role(role)
        if record.file is None:
            return self.folder(role) / "transformer"
        repository, _, name = record.file.rpartition("/")
        return hub.fetch(repository, record.licence, [name]) / name

    def adopt(
        self,
        key: str,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderKL | None = None,
        encoders: Encoders | None = None,
    ) -> None:
        """Use these components, however they were made, as the transformer of the roles with this key."""
        self._register(key, transformer)
        self._vae, self._encoders, self._unsaved = vae or self._vae, encoders or self._encoders, True
        self._own_parts &= vae is None and encoders is None

    def _register(self, key: str, transformer: FluxTransformer2DModel) -> None:
        remember_positions(transformer)
        self.transformers[key] = transformer


def _files(place: Path) -> list[Path]:
    """All files of a part."""
    return sorted(place.iterdir()) if place.is_dir() else [place]


def _weights(place: Path) -> list[Path]:
    """A part's files of weights."""
    return sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
