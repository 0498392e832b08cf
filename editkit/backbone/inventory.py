"""Published weights on this machine, and what they need in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A role's weights in the Hub's cache.

    Attributes:
        family: name of the backbone.
        role: name of the role.
        source: repository or file.
        state: `complete`, `partly` or `absent`; `embedded` where they come with editkit.
        size: bytes of the repository that are here; roles may share one.
        whole: bytes that the role needs on disk.
        missing: where the state is `partly`, the repository and the file, or the pattern of files, of each
            thing that is not here.
    """

    family: str
    role: str
    source: str
    state: str
    size: int
    whole: float
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """What a role needs on a device, in bytes, and the preset that makes it fit.

    Attributes:
        family: name of the backbone.
        role: name of the role.
        transformer: of weights.
        encoders: of weights, of both text encoders.
        vae: of weights.
        preset: value of the loading option low_memory; empty where none is needed, None where none helps.
        peak: of weights on the device at once, with that preset.
        travels: of weights that come to the device in each step, as there is no room for them to stay.
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
class Way:
    """A way to load a role of FLUX.1.

    Attributes:
        settings: what to add to the command, or nothing.
        device: bytes of weights on the device.
        main: bytes of weights in main memory.
        needs: package that it takes, or None.
    """

    settings: str
    device: float
    main: float = 0.0
    needs: str | None = None


class Inventory(Protocol):
    """What is here of the published weights, and what will fit."""

    @property
    def ROOM(self) -> float:
        """Bytes that an edit of one megapixel needs besides weights, at most."""

    def held(self) -> list[Held]:
        """Every role of every family, and how much of it is here."""

    def token(self) -> bool:
        """Whether this machine has a token for gated weights."""

    def fits(self, memory: float, quantization: Mapping[str, Any]) -> list[Fit]:
        """Every role of every family on a device of this many bytes, in the precision of GPUs.

        `quantization` holds values of the loading option of that name by part; it may be empty.
        """

    def preset(self, memory: float) -> str | None:
        """The preset for several roles in one process; empty where none is needed, None where none helps."""

    def ways(self, on_cpu: bool) -> list[Way]:
        """Ways to load one role of FLUX.1, from the plainest."""
