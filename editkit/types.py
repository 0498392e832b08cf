"""The records that data walks through, from a request to a result.

Shape letters, here and everywhere: B batch, C channels, H W pixels, h w latent cells (8 pixels a side),
L image tokens of the canvas (2 latent cells a side), S tokens that join the sequence, T text tokens, D width.
Pixels are floats in [0, 1] unless a docstring says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from editkit.request import EditRequest as EditRequest
from editkit.request import SearchSettings as SearchSettings

if TYPE_CHECKING:
    from PIL import Image
    from torch import Generator, Tensor

    from editkit.request import ImageInput as ImageInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One answer.

    Attributes:
        better: `first`, `second`, or empty for neither.
        reply: what the judge said, word for word.
        seconds: that it took.
        problem: why the reply could not be used, which counts as a tie; empty where it could.
        lead: how much likelier `first` was than `second`, in log-odds; None where the judge cannot tell.
    """

    better: str
    reply: str
    seconds: float
    problem: str = ""
    lead: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two candidates before the judge, by seed; `verdicts` holds one answer, or one for each order."""

    seeds: tuple[int, int]
    better: int | None
    verdicts: tuple[Verdict, ...]


class SearchFindings(Protocol):
    """What a search over seeds saw."""

    @property
    def previews(self) -> Mapping[int, Image.Image]:
        """Pictures that the judge saw, by seed."""

    @property
    def comparisons(self) -> Sequence[Comparison]:
        """The judge's comparisons, in order."""

    @property
    def seed(self) -> int:
        """The winner."""

    @property
    def steps(self) -> int:
        """Euler steps of all seeds together."""

    def summary(self) -> dict[str, Any]:
        """All but the pictures, in JSON's types."""

    def contact_sheet(self) -> Image.Image:
        """All previews side by side, the winner's framed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EditInputs:
    """Requests of one batch as tensors; everything in it has one size.

    Attributes:
        source_BCHW: pictures to edit; None for text to image.
        mask_B1HW: 1 where the edit may land.
        prompts: B instructions.
        task: one of the method's own, or None.
        references: each BCHW, each of its own size.
        negatives: B negative prompts, or None.
        size: (width, height) asked for, or None.
        generators: the B generators that the noise will be drawn from, for methods whose official sampler
            draws from them before; empty in training.
    """

    prompts: tuple[str, ...]
    task: str | None = None
    source_BCHW: Tensor | None = None
    mask_B1HW: Tensor | None = None
    references: tuple[Tensor, ...] = ()
    negatives: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    generators: tuple[Generator, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """What is denoised, and the way back to the input's pixels.

    Attributes:
        width: of the whole canvas in pixels, a multiple of 16.
        height: likewise.
        answer: the panel of the canvas in which the answer appears.
        content: where the scaled input lies within that panel; the rest of the panel is padding.
        original: (width, height) of the input, which the result has again.
        apart: whether the answer's panel is encoded and decoded without what lies beside it.
    """

    width: int
    height: int
    answer: Box
    content: Box
    original: tuple[int, int]
    apart: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Encoded prompts.

    Attributes:
        tokens_BTD: T5 features.
        pooled_BD: CLIP's pooled feature.
        ids_T3: position ids of the tokens; all 0 where None, as FLUX was trained.
    """

    tokens_BTD: Tensor
    pooled_BD: Tensor
    ids_T3: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditioning:
    """The two slots of a FLUX edit, and the text.

    Attributes:
        text: the prompts; None until they are encoded.
        negative: negative prompts for true classifier-free guidance.
        channel_BLC: joins the noise on channels (FLUX.1 Fill and what builds on it).
        sequence_BSC: joins the noise on the sequence (Kontext's context, references).
        sequence_ids_S3: position ids (image, row, column) of `sequence_BSC`.
        ids_L3: position ids of the canvas' own tokens; one grid where None.
        valid_BN: which tokens of the canvas, and behind them of `sequence_BSC`, are there at all; the others
            pad a batch of several sizes and nothing attends to them. All where None.
    """

    text: Text | None = None
    negative: Text | None = None
    channel_BLC: Tensor | None = None
    sequence_BSC: Tensor | None = None
    sequence_ids_S3: Tensor | None = None
    ids_L3: Tensor | None = None
    valid_BN: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One prepared batch: a canvas, its conditioning, and the transformer that it is for."""

    canvas: Canvas
    conditioning: Conditioning
    role: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """Where things of the first picture are in the second.

    Attributes:
        right: shift in pixels, in the middle of the picture.
        down: likewise.
        wider: scale across, 1 where there is none.
        taller: likewise.
        blocks: how many could be compared.
    """

    right: float
    down: float
    wider: float
    taller: float
    blocks: int

    @property
    def shift(self) -> float:
        """Length of the shift in pixels."""
        return math.hypot(self.right, self.down)

    def stretch(self, width: int, height: int) -> float:
        """How far the scale moves an edge of a picture of this size, in pixels."""
        return max(abs(self.wider - 1) * width, abs(self.taller - 1) * height) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class EditResult:
    """What a person gets.

    Attributes:
        image: exactly as large as the input; None where this request failed in a batch.
        method: its method's name.
        seed: of its noise.
        recipe: everything needed to make it again.
        timings: seconds by stage.
        notes: warnings in plain words.
        error: why it failed, in one sentence.
        search: what a seed search saw; None where there was none.
        change: gray, as large as the source: white where this edit was meant to change it, which is the mask
            that was given, else what was inferred; None where there was no source.
        alignment: where things of the source are in the edit, measured outside the change, before any
            correction; None where there was no source or too little of it to measure by.
    """

    image: Image.Image | None
    method: str
    seed: int
    recipe: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str | None = None
    search: SearchFindings | None = None
    change: Image.Image | None = None
    alignment: Alignment | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture with its method, seed, seconds and notes, or why it failed."""
        from editkit.notebook import html

        told = f"{self.method}, seed {self.seed}, {sum(self.timings.values()):.1f} s"
        return html(self.image, "; ".join((told, *self.notes, *([self.error] if self.error else []))))
