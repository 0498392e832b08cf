"""LoRA files of FLUX: how a method's are recognised, what is in one, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from editkit.backbone.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterSignature:
    """How a method's adapter files are recognised, the surest sign first.

    Attributes:
        routing: key of a file's metadata under which the method keeps how its LoRA-MoE routes tokens; files
            with experts are the method's too. None where it has no experts.
        channels: of the tokens that its `x_embedder` takes.
        architecture: part of the architecture's name that training programs write into metadata.
    """

    routing: str | None = None
    channels: tuple[int, ...] = ()
    architecture: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertsSummary:
    """The LoRA-MoE in a file.

    Attributes:
        modules: that carry experts.
        number: of experts on each.
        rank: of an expert.
        top_k: experts that a token uses.
        router: `released` or `paper`.
        alpha: of an expert.
    """

    modules: int
    number: int
    rank: int
    top_k: int
    router: str
    alpha: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSummary:
    """What is in a LoRA file; modules are diffusers' throughout.

    Attributes:
        dialect: diffusers, kohya, bfl, comfyui or xlabs.
        method: whose file it is by the methods' signatures; several, with "or" between, where a sign is
            theirs alike, or unknown.
        width: of the transformer.
        x_embedder: channels of the tokens that it takes; None where the file leaves it alone.
        ranks: modules by rank.
        alphas: modules by alpha.
        kinds: modules by kind, blocks taken together.
        modules: that a plain LoRA adapts.
        possible: linear modules of the transformer, of FLUX's 19 and 38 blocks where it is as wide as FLUX,
            else of as many blocks as the file knows.
        experts: the LoRA-MoE; None where there is none.
        unplaced: keys that are left unloaded once the file is in diffusers' layout.
    """

    dialect: str
    method: str
    width: int
    x_embedder: int | None
    ranks: dict[int, int]
    alphas: dict[float, int]
    kinds: dict[str, int]
    modules: int
    possible: int
    experts: ExpertsSummary | None
    unplaced: tuple[str, ...]


class CollapsedAdapter(Protocol):
    """A method's own kind of adapter as a plain LoRA, and how much that loses."""

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The plain LoRA's tensors by key."""

    @property
    def errors(self) -> Mapping[str, float]:
        """By module, the distance from the adapter to its stand-in, relative to the adapter's own size."""

    @property
    def error(self) -> float:
        """The mean over modules."""


class LoraFormats(Protocol):
    """LoRAs of FLUX in every dialect: tensors by key and metadata, on a transformer or in a file.

    All raise EditkitError for tensors that are no sound LoRA.
    """

    def convert_to_diffusers(
        self, state: Mapping[str, Tensor], about: Mapping[str, str]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
        """A file's tensors and metadata as diffusers' pipelines write them, whatever its spelling."""

    def load_lycoris(
        self, transformer: Transformer, state: Mapping[str, Tensor], about: Mapping[str, str], name: str
    ) -> bool:
        """Put a LoKr or LoHa on a transformer; False, and nothing done, where the tensors are of neither."""

    def widen_lora(self, state: Mapping[str, Tensor], in_channels: int) -> Mapping[str, Tensor]:
        """A LoRA in peft's naming, its input layer's matrix moved to where a wider one has its channels."""

    def update_shapes(self, state: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """By module, the outputs and inputs of a plain LoRA's update."""

    def check_fit(self, transformer: Transformer, state: Mapping[str, Tensor]) -> None:
        """Refuse a LoRA in diffusers' layout that would not land whole."""

    def check_shapes(self, transformer: Transformer, wanted: Mapping[str, tuple[int, int]]) -> None:
        """Refuse modules, by name with their outputs and inputs, that the transformer has not."""

    def check_finite(self, tensors: Iterable[Tensor]) -> None:
        """Refuse values that are not finite; tensors without values pass."""

    def inspect(
        self,
        state: Mapping[str, Tensor],
        about: Mapping[str, str],
        signatures: Mapping[str, AdapterSignature],
    ) -> LoraSummary:
        """What a file's tensors and metadata tell; `signatures` are the methods' by name."""

    def check_destination(self, destination: Path) -> None:
        """Refuse what is no .safetensors file in a folder that exists, before the work."""

    def convert(
        self, source: Path, destination: Path, to: str, rank: int | None
    ) -> tuple[tuple[str, ...], float]:
        """Write a file in another dialect; returns keys that were left out, and what a lower rank loses."""

    def merge(
        self, sources: Sequence[tuple[Path, float]], destination: Path, rank: int | None
    ) -> tuple[tuple[str, ...], float]:
        """Write a sum of scaled LoRAs as one; returns as `convert`."""

    def plain_lora(
        self, state: Mapping[str, Tensor], collapsed: Mapping[str, Tensor], about: Mapping[str, str]
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """A LoRA-MoE whose experts collapsed, as a plain LoRA's tensors and metadata."""

    def write_file(self, state: Mapping[str, Tensor], about: Mapping[str, str], destination: Path) -> None:
        """Write a file, whole or not at all."""
