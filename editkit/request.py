"""The request: the fields of an edit, written once.

The command line's options, the page's controls and the recipe are made from these fields. The first sentence
below a field is its help text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    ImageInput = str | Path | Image.Image | NDArray[np.uint8] | NDArray[np.floating[Any]] | Tensor


class SearchSettings(Protocol):
    """Settings of a search over seeds, such as `editkit.SeedSearch`."""

    @property
    def seeds(self) -> int:
        """Number of seeds to try, counted up from the request's seed."""

    @property
    def judge(self) -> str:
        """Name of the judge that compares the previews."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EditRequest:
    """One edit as a person asks for it."""

    image: ImageInput | None
    """Picture to edit. A path, a PIL image, or an array or tensor, height x width x channels, of uint8 or of
    floats in [0, 1]; None for text to image."""
    instruction: str
    """The edit in words; without a picture to edit, the whole picture in words."""
    method: str = "kontext"
    """Name of a method; `editkit methods` lists them."""
    task: str | None = None
    """Use case, for methods that have several; `editkit methods NAME` lists them. Where None, the
    method chooses one that fits the inputs."""
    mask: ImageInput | None = None
    """Mask, white where the picture may change. It has the picture's size."""
    references: Sequence[ImageInput] = ()
    """Reference picture that the instruction speaks of."""
    seed: int = 0
    """Random seed. The same seed gives the same picture."""
    steps: int | None = None
    """Number of Euler steps; if not given, the default of the method."""
    guidance: float | None = None
    """Distilled guidance; if not given, the default of the method."""
    size: tuple[int, int] | None = None
    """Width and height at which the network works; if not given, they follow from the picture."""
    preserve: bool | None = None
    """Keep pixels outside the change identical. Where None, only with a mask."""
    align: bool = False
    """Measure whether the result is shifted or scaled against the source, and undo it."""
    negative: str | None = None
    """Negative prompt: what the picture should not show. It switches true classifier-free guidance on."""
    speed: str = "exact"
    """How much work to save: exact (none), balanced or fast. The last two take settings that
    were measured for method and backbone. Own settings read key=value, with commas between; see
    `editkit.inference.speed_settings`."""
    search: SearchSettings | Mapping[str, Any] | None = None
    """Try several seeds, from `seed` on, and finish the one that a judge prefers. A `SeedSearch`, or a dict
    of its fields."""


FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(EditRequest))
"""Names of the fields of a request, in order."""
PICTURES = ("image", "mask", "references")
"""Fields that are pictures: a recipe holds their files and hashes."""
TEXTS = ("instruction", "negative")
"""Fields that are free text."""
SETTINGS: tuple[str, ...] = (
    *TEXTS,
    *(name for name in FIELDS if name not in (*TEXTS, *PICTURES, "search")),
)
"""Fields that a recipe holds as they are, in its order. The recipe of a search holds the seed found."""
USED = ("method", "steps", "guidance", "speed")
"""Settings that a request may leave open; a recipe holds the values that were used."""
