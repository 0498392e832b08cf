"""Define records and protocols for LoRA files of FLUX: signature, summary, formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from editkit.backbone.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSignature:
    """The signs by which a method's adapter files are recognised, the most reliable one first.

    Attributes:
        routing: key of a file's metadata under which the method keeps how its LoRA-MoE routes tokens. Files
            with experts are the method's too. None where the method has no experts.
        channels: possible numbers of channels that the files' `x_embedder` takes.
        architecture: part of the architecture's name that training programs write into metadata.
    """

    routing: str | None = None
    channels: tuple[int, ...] = ()
    architecture: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertsSummary:
    """A summary of the LoRA-MoE in a file.

    Attributes:
        modules: number of modules with experts.
        number: number of experts of each module.
        rank: rank of an expert.
        top_k: number of experts that a token uses.
        router: `released` or `paper`.
        alpha: alpha of an expert.
    """

    modules: int
    number: int
    rank: int
    top_k: int
    router: str
    alpha: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSummary:
    """A summary of a LoRA file; modules are diffusers' modules.

    Attributes:
        dialect: diffusers, kohya, bfl, comfyui or xlabs.
        method: the method that the file is for, by the methods' signatures; several names joined by "or"
            where a sign fits several; or unknown.
        width: width of the transformer.
        base: name of the family whose transformers are so wide; None where there is none.
        x_embedder: number of channels that the file's x_embedder takes; None where the file does not change
            it.
        ranks: number of modules by rank.
        alphas: number of modules by alpha.
        kinds: number of modules by kind, blocks taken together.
        modules: number of modules with an update of that sort.
        possible: number of linear modules of the transformer: with FLUX's 19 and 38 blocks where it is as
            wide as FLUX, else with as many blocks as the file names.
        experts: summary of the LoRA-MoE; None where there is none.
        unplaced: keys that remain unused once the file is in diffusers' layout.
        sort: LoRA, LoKr or LoHa.
    """

    dialect: str
    method: str
    width: int
    base: str | None
    x_embedder: int | None
    ranks: dict[int, int]
    alphas: dict[float, int]
    kinds: dict[str, int]
    modules: int
    possible: int
    experts: ExpertsSummary | None
    unplaced: tuple[str, ...]
    sort: str = "LoRA"


class CollapsedAdapter(Protocol):
    """A method's own kind of adapter, replaced by a plain LoRA, and the error of the replacement."""

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The plain LoRA's tensors by key."""

    @property
    def errors(self) -> Mapping[str, float]:
        """Distance between the adapter's update and the LoRA's, relative to the adapter's, by module."""

    @property
    def error(self) -> float:
        """Mean error over modules."""


class LoraFormats(Protocol):
    """Reads, checks, converts and writes LoRAs of FLUX in every dialect.

    All methods raise EditkitError for tensors that are not a valid LoRA.
    """

    def convert_to_diffusers(
        self, state: Mapping[str, Tensor], about: Mapping[str, str]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
        """Return a file's tensors and metadata as diffusers' pipelines write them, whatever its spelling."""

    def load_lycoris(
        self, transformer: Transformer, state: Mapping[str, Tensor], about: Mapping[str, str], name: str
    ) -> bool:
        """Put a LoKr or LoHa on a transformer; return False, and do nothing, for other tensors."""

    def widen_lora(self, state: Mapping[str, Tensor], in_channels: int) -> Mapping[str, Tensor]:
        """Move the columns of a LoRA's input layer to where a wider input layer has these channels."""

    def update_shapes(self, state: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the numbers of outputs and inputs of a plain LoRA's updates, by module."""

    def check_fit(self, transformer: Transformer, state: Mapping[str, Tensor]) -> None:
        """Check that a LoRA in diffusers' layout fits the transformer completely."""

    def check_dora(self, transformer: Transformer, modules: Callable[[str], bool]) -> None:
        """Check that a DoRA of the modules that are so named could read the values of their weights."""

    def check_shapes(self, transformer: Transformer, wanted: Mapping[str, tuple[int, int]]) -> None:
        """Check that the transformer has these linear modules with these outputs and inputs."""

    def check_finite(self, tensors: Iterable[Tensor]) -> None:
        """Check that all values are finite; tensors on the meta device are skipped."""

    def inspect(
        self,
        state: Mapping[str, Tensor],
        about: Mapping[str, str],
        signatures: Mapping[str, AdapterSignature],
    ) -> LoraSummary:
        """Summarise a file's tensors and metadata; `signatures` are the methods' by name."""

    def check_destination(self, destination: Path) -> None:
        """Check, before the work starts, that this is a .safetensors file in a folder that exists."""

    def convert(
        self, source: Path, destination: Path, to: str, rank: int | None
    ) -> tuple[tuple[str, ...], float]:
        """Write a file in another dialect; return the keys left out and the error of a lower rank."""

    def merge(
        self, sources: Sequence[tuple[Path, float]], destination: Path, rank: int | None
    ) -> tuple[tuple[str, ...], float]:
        """Write the sum of scaled LoRAs as one; return the same as `convert`."""

    def plain_lora(
        self, state: Mapping[str, Tensor], collapsed: Mapping[str, Tensor], about: Mapping[str, str]
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return a plain LoRA's tensors and metadata for a LoRA-MoE whose experts were collapsed."""

    def write_file(self, state: Mapping[str, Tensor], about: Mapping[str, str], destination: Path) -> None:
        """Write a file, whole or not at all."""
