"""Define the records of a FLUX family and of its roles, as the table of backbones holds them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """One transformer of a family, and what it was trained for.

    Attributes:
        source: Hub id, or a folder on this machine.
        in_channels: number of channels of a token that the transformer takes.
        steps: default Euler steps.
        guidance: default distilled guidance; None where the network takes none.
        sizes: (width, height) pairs that it was trained at; a single one is the default for text to image.
        area: largest number of pixels where `sizes` is empty.
        licence: licence of the weights.
        disk_gb: size of all that the role needs on disk in GB.
        memory_gb: size of the weights in bf16 at inference in GB, without offload.
        file: OWNER/REPOSITORY/FILE on the Hub, in BFL's naming, where the transformer is not part of
            `source`.
        start: role whose transformer, with a widened input, is this role's, where it has no weights of its
            own. An adapter decides what the new channels do.
        cached_context: whether it was trained with a cached context too, as the option `context=cached` asks.
    """

    source: str
    in_channels: int
    steps: int
    guidance: float | None
    licence: str
    sizes: tuple[tuple[int, int], ...] = ()
    area: int = 1024 * 1024
    disk_gb: float = 33.7
    memory_gb: float = 33.7
    file: str | None = None
    start: str | None = None
    cached_context: bool = False

    @property
    def key(self) -> str:
        """Identifies the transformer: roles with the same key share one."""
        return self.file or (f"{self.source}, {self.in_channels} channels" if self.start else self.source)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One VAE and one pair of text encoders, shared by a transformer for each role.

    Attributes:
        name: name for `editkit.load`.
        summary: one line about the family.
        sequence_length: number of T5 tokens of a prompt.
        roles: roles by name; a role may use another's weights.
        panels_alone: whether the decoder knows single pictures only, so that an answer is decoded without its
            neighbours on the canvas. FLUX.1's decodes the whole canvas, as in the official pipelines.
        base: the published family whose transformers have these shapes, so that its adapters fit; None where
            there is none.
    """

    name: str
    summary: str
    sequence_length: int
    roles: Mapping[str, Role]
    panels_alone: bool = False
    base: str | None = None
