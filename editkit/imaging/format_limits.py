"""Limits of picture formats, checked before an edit runs for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from editkit.errors import EditkitError
from editkit.imaging.images import FORMATS

LONGEST_SIDES: Mapping[str, int] = {"JPEG": 65_500, "WEBP": 16_383}
"""Longest side, in pixels, of a picture in a format; PNG's is longer than that of any picture here."""


def check_size(path: Path, size: tuple[int, int]) -> None:
    """Check that the format of an output holds a picture of this size.

    Raises:
        EditkitError: where a side is too long.
    """
    longest = longest_side(path)
    if longest is not None and max(size) > longest:
        raise EditkitError(
            f"The output {path} holds up to {longest:,} pixels a side, and the picture has "
            f"{size[0]}x{size[1]}; name it .png."
        )


def longest_side(path: Path) -> int | None:
    """Return the longest side that the format of an output holds; None where all are short enough."""
    return LONGEST_SIDES.get(FORMATS[path.suffix.lower()]["format"])
