"""What a person asks for. The fields of an edit are written here once.

The command line's options, the page's controls and the recipe are made from them: the first sentence below a
field is its help.
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
    """How to search over seeds; `editkit.SeedSearch` is one."""

    @property
    def seeds(self) -> int:
        """Candidates, counted up from the request's seed."""

    @property
    def judge(self) -> str:
        """Name of the judge that compares them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EditRequest:
    """One edit, as a person asks for it."""

    image: ImageInput | None
    """Picture to edit. A path, a PIL image, or an array or tensor, height x width x channels, of uint8 or of
    floats in [0, 1]; None for text to image."""
    instruction: str
    """The edit in words, or the whole picture where there is none to edit."""
    method: str = "kontext"
    """Name of a method; `editkit methods` lists them."""
    task: str | None = None
    """Use case, for methods that have several; `editkit methods NAME` lists them. The
    method chooses by what is given where None."""
    mask: ImageInput | None = None
    """Mask: white where the edit may land. As large as the picture."""
    references: Sequence[ImageInput] = ()
    """Reference picture that the instruction speaks of."""
    seed: int = 0
    """Random seed. The same seed gives the same picture."""
    steps: int | None = None
    """Number of Euler steps; the method's own if not given."""
    guidance: float | None = None
    """Distilled guidance; the method's own if not given."""
    size: tuple[int, int] | None = None
    """Width and height that the network works at; fitted to the picture if not given."""
    preserve: bool | None = None
    """Keep pixels outside the change identical. Only if there is a mask where None."""
    align: bool = False
    """Undo a measured shift or scale against the source."""
    negative: str | None = None
    """What not to show; switches true classifier-free guidance on."""
    search: SearchSettings | Mapping[str, Any] | None = None
    """Try several seeds, from `seed` on, and finish the one that a judge prefers. A `SeedSearch`, or a dict
    of its fields."""


FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(EditRequest))
"""Names of an edit's fields, in order."""
PICTURES = ("image", "mask", "references")
"""Those that are pictures: a recipe tells them by file and hash."""
TEXTS = ("instruction", "negative")
"""Those that are free text."""
SETTINGS: tuple[str, ...] = (
    *TEXTS,
    *(name for name in FIELDS if name not in (*TEXTS, *PICTURES, "search")),
)
"""Those that a recipe holds as they are, in its order; a search's recipe holds the seed that it found."""
USED = ("method", "steps", "guidance")
"""Settings that a recipe holds as they were used, where a request may leave them open."""
