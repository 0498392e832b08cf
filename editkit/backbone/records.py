"""Records of a FLUX family and of its transformers, as the table of backbones holds them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """One transformer of a family and what it was trained for.

    Attributes:
        source: Hub id, or a folder on this machine.
        in_channels: width of a token that the transformer takes.
        steps: default Euler steps.
        guidance: default distilled guidance; None where the network takes none.
        sizes: (width, height) pairs that it was trained at; the first alone is the default for text to image.
        area: largest number of pixels where `sizes` is empty.
        licence: of the weights.
        disk_gb: of the whole pipeline folder.
        memory_gb: of weights in bf16 at inference, nothing offloaded.
        file: where the transformer is no part of `source`: OWNER/REPOSITORY/FILE on the Hub, a safetensors
            file in BFL's naming.
        start: role whose transformer this one is, its input widened, where it has no weights of its own: what
            the new channels do is an adapter's to say.
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

    @property
    def key(self) -> str:
        """What tells transformers apart: roles with one key share one."""
        return self.file or (f"{self.source}, {self.in_channels} channels" if self.start else self.source)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One VAE and one pair of text encoders, shared by a transformer per role.

    Attributes:
        name: what `editkit.load` takes.
        summary: one line.
        sequence_length: T5 tokens of a prompt.
        roles: by name; a role may point at another's weights.
        panels_alone: whether its decoder knows single pictures only, so an answer is decoded without what
            stands beside it on its canvas. FLUX.1's decodes the whole canvas, as the official pipelines do.
        base: the published family whose transformers these are by their shapes: its adapters fit. None where
            it is none of them.
    """

    name: str
    summary: str
    sequence_length: int
    roles: Mapping[str, Role]
    panels_alone: bool = False
    base: str | None = None
