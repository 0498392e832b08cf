"""Kontext's options."""

import math
from dataclasses import dataclass

LAYOUTS = ("index", "offset", "stitch")
CONTEXTS = ("joint", "cached")
RELEASED = {"flux1-dev": "offset"}
"""Layout by the backbone's base, where its weights were trained with one picture at offset 1."""


@dataclass(frozen=True, kw_only=True)
class KontextConfig:
    """Options of Kontext."""

    layout: str | None = None
    """Where context pictures stand: `index` (paper: picture i at offset i), `offset` (all at 1, side by side
    in row or column positions) or `stitch` (joined into one wide picture before encoding). Where null,
    `offset` on FLUX.1's released weights, which were trained with one offset, and `index` elsewhere."""
    sizes: str = "preferred"
    """`preferred`: the nearest of the sizes that the weights were trained at; `exact`: the source's own
    size, up to the role's area."""
    area: int = 1024 * 1024
    """Largest number of pixels of a canvas or a reference where `sizes` is `exact`."""
    context: str = "joint"
    """How context pictures attend: `joint`, with all tokens (released); `cached`, to each other only and at a
    fixed time, so that their keys and values are computed once. `cached` is for weights trained with it."""
    true_cfg: float = 2.0
    """Scale of classifier-free guidance where a negative prompt is given."""
    prompt_dropout: float = 0.1
    """Training: share of samples whose instruction is left out."""

    def __post_init__(self) -> None:
        if self.layout not in (None, *LAYOUTS):
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, not {self.layout!r}")
        if self.context not in CONTEXTS:
            raise ValueError(f"context must be joint or cached, not {self.context!r}")
        if self.sizes not in ("preferred", "exact"):
            raise ValueError(f"sizes must be preferred or exact, not {self.sizes!r}")
        if self.area < 1:
            raise ValueError(f"area must be at least 1, not {self.area}")
        if not math.isfinite(self.true_cfg):
            raise ValueError(f"true_cfg must be a finite number, not {self.true_cfg}")
        if not 0 <= self.prompt_dropout < 1:
            raise ValueError(f"prompt_dropout must lie in [0, 1), not {self.prompt_dropout}")


CONFIG = KontextConfig
