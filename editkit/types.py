"""The records that an edit passes on, from a request to a result.

Shape letters, here and everywhere: B batch, C channels, H W pixels, h w latent cells (8 pixels a side),
L image tokens of the canvas (2 latent cells a side), S tokens that join the sequence, T text tokens, D width.
Pixels are floats in [0, 1] unless a docstring says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from editkit.request import EditRequest as EditRequest
from editkit.request import SearchSettings as SearchSettings

if TYPE_CHECKING:
    from PIL import Image
    from torch import Generator, Tensor

    from editkit.key_values import KeyValues
    from editkit.request import ImageInput as ImageInput
    from editkit.search_types import SearchFindings


@dataclass(frozen=True, kw_only=True, slots=True)
class EditInputs:
    """The requests of one batch as tensors of one size.

    Attributes:
        source_BCHW: pictures to edit; None for text to image.
        mask_B1HW: 1 where the edit may land.
        prompts: B instructions.
        task: name of the method's use case, or None.
        references: pictures BCHW, each of its own size.
        negatives: B negative prompts, or None.
        size: the request's (width, height), or None.
        generators: the B generators of the noise, for methods whose official sampler draws something else
            from them first; empty in training.
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
    """The picture that is denoised, and how to get back to the input's pixels.

    Attributes:
        width: width of the whole canvas in pixels, a multiple of 16.
        height: height of the whole canvas in pixels, a multiple of 16.
        answer: the panel of the canvas in which the answer appears.
        content: where the scaled input lies within that panel; the rest of the panel is padding.
        original: (width, height) of the input, which the result has again.
        apart: whether the answer's panel is encoded and decoded by itself, without its neighbours.
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
        tokens_BTD: T5's features.
        pooled_BD: CLIP's pooled feature.
        ids_T3: position ids of the tokens; where None, all 0, as in FLUX's training.
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
        ids_L3: position ids of the canvas' tokens; one grid where None.
        valid_BN: mask of the real tokens, those of the canvas first and then those of `sequence_BSC`; the
            others are padding that nothing attends to. Where None, all are real.
        context_apart: whether the tokens of `sequence_BSC`, or the given ones, attend to each other only, at
            time 0 and without text, so that their keys and values serve every step, seed and prompt.
        given_L: mask of the canvas' tokens that are given rather than painted, with `context_apart` only; the
            first channels of `channel_BLC` are their latents.
        held: keys and values of further image tokens, which all tokens attend to; `valid_BN` counts them
            where it counts those of the sequence.
        kept: where a forward pass puts the keys and values of its image tokens, canvas first.
    """

    text: Text | None = None
    negative: Text | None = None
    channel_BLC: Tensor | None = None
    sequence_BSC: Tensor | None = None
    sequence_ids_S3: Tensor | None = None
    ids_L3: Tensor | None = None
    valid_BN: Tensor | None = None
    context_apart: bool = False
    given_L: Tensor | None = None
    held: KeyValues | None = None
    kept: KeyValues | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The plan of a batch: its canvas, its conditioning, and the role of the transformer to run."""

    canvas: Canvas
    conditioning: Conditioning
    role: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """Shift and scale of a second picture's content against a first one.

    Attributes:
        right: shift to the right in pixels, in the middle of the picture.
        down: shift downwards in pixels, in the middle of the picture.
        wider: horizontal scale, 1 for none.
        taller: vertical scale, 1 for none.
        blocks: number of blocks that could be compared.
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
        """Return how far the scale moves an edge of a picture of this size, in pixels."""
        return max(abs(self.wider - 1) * width, abs(self.taller - 1) * height) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class EditResult:
    """The result of an edit.

    Attributes:
        image: the edited picture, exactly as large as the input; None where the request failed in a batch.
        method: name of the method.
        seed: seed of the noise.
        recipe: everything that is needed to make the picture again.
        timings: seconds by stage.
        notes: warnings in plain words.
        error: why the request failed, in one sentence; None otherwise.
        search: the findings of a seed search; None where there was none.
        change: a gray picture of the source's size, white where the edit was meant to change something: the
            given mask, else what was inferred; None without a source.
        alignment: shift and scale against the source, measured outside the change and before any
            correction; None without a source or where too little of it can be compared.
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
        """Return HTML of the picture with its method, seed, seconds and notes, or of why it failed."""
        from editkit.notebook import html

        told = f"{self.method}, seed {self.seed}, {sum(self.timings.values()):.1f} s"
        return html(self.image, "; ".join((told, *self.notes, *([self.error] if self.error else []))))
