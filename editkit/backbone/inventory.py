"""Define records of the published weights on this machine, and of the memory that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedRole:
    """A role's weights in the Hub's cache.

    Attributes:
        family: name of the backbone.
        role: name of the role.
        source: repository or file.
        state: `complete`, `partly` or `absent`; `embedded` where the weights come with editkit.
        size: bytes of the repository in the cache; roles may share a repository.
        whole: bytes that the role needs on disk.
        missing: where the state is `partly`, the missing files, each as a repository, a space, and a name or
            pattern of files.
    """

    family: str
    role: str
    source: str
    state: str
    size: int
    whole: float
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryFit:
    """The memory that a role needs on a device, in bytes, and the preset with which it fits.

    Attributes:
        family: name of the backbone.
        role: name of the role.
        transformer: bytes of the transformer's weights.
        encoders: bytes of both text encoders' weights.
        vae: bytes of the autoencoder's weights.
        preset: value of the loading option low_memory; empty where none is needed, None where none helps.
        peak: largest number of bytes of weights on the device at once, with that preset.
        travels: bytes of weights that are copied to the device in each step; 0 where all of them stay there.
    """

    family: str
    role: str
    transformer: float
    encoders: float
    vae: float
    preset: str | None
    peak: float
    travels: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadingChoice:
    """A way to load a role of FLUX.1.

    Attributes:
        settings: options to add to the command; empty for none.
        device: bytes of weights on the device.
        main: bytes of weights in main memory.
        needs: package that must be installed, or None.
    """

    settings: str
    device: float
    main: float = 0.0
    needs: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightFile:
    """The models in a weight file.

    Attributes:
        models: bytes of each model once it is loaded: `transformer`, `text_encoder` (CLIP),
            `text_encoder_2` (T5) or `vae`.
        bits: bits of a weight then, on average.
        base: name of the family whose transformer has this shape; None for another shape, or no transformer.
        channels: number of channels that the transformer takes; None without one.
        roles: roles of the family that the transformer may be for.
        options: further loading options that the file needs, as key=value.
    """

    models: Mapping[str, float]
    bits: float
    base: str | None
    channels: int | None
    roles: tuple[str, ...]
    options: tuple[str, ...]


class Inventory(Protocol):
    """Tells which published weights are on this machine, and which of them fit its devices."""

    @property
    def ROOM(self) -> float:
        """Largest number of bytes that an edit of one megapixel needs besides weights."""

    def cached_roles(self) -> list[CachedRole]:
        """List every role of every family, with how much of it is in the Hub's cache."""

    def token(self) -> bool:
        """Whether this machine has a token of the Hub, which gated weights need."""

    def memory_fits(self, memory: float, loading: Mapping[str, Any]) -> list[MemoryFit]:
        """List what every role of every family needs on a device of this many bytes.

        Args:
            memory: bytes of the device.
            loading: loading options: `quantization`, and weight files, which count with what they take once
                they are loaded; all other models are in bfloat16.

        Raises:
            EditkitError: where an option is refused, or a file is missing, damaged or of another kind.
        """

    def weight_file(self, path: Path) -> WeightFile | None:
        """Tell which models a file holds; None where there is none of FLUX.

        Raises:
            EditkitError: where the file is damaged or of another kind.
        """

    def best_preset(self, memory: float) -> str | None:
        """Return the preset for several roles in one process; '' if none is needed, None if none helps."""

    def loading_choices(self, on_cpu: bool) -> list[LoadingChoice]:
        """List ways to load one role of FLUX.1, the simplest first."""
