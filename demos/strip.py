"""Draw docs/strip.png: edits of held-out ShapesWorld scenes by the embedded backbone."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import editkit
from editkit import shapesworld
from editkit.imaging import contact_sheet
from editkit.shapesworld.compound import compound_example

SEED, COLUMNS, GAP = 3, 6, 8
OUTPUT = Path("docs/strip.png")

Pair = tuple[str, Image.Image]
"""An instruction, and its source above its edit."""


def main() -> None:
    """One edit of each kind, an open and a compound instruction, each the first of its seed, never picked."""
    OUTPUT.parent.mkdir(exist_ok=True)
    pairs = edited(examples())
    bands = [contact_sheet.strip(pairs[start : start + COLUMNS]) for start in range(0, len(pairs), COLUMNS)]
    stacked(bands, GAP).save(OUTPUT, optimize=True)
    print(OUTPUT)


def examples() -> list[tuple[str, shapesworld.Scene]]:
    """Instructions and sources; seeds count up from kind to kind, since kinds share a seed's scene."""
    found: list[shapesworld.Example | shapesworld.OpenExample]
    found = [shapesworld.example(SEED + place, kind) for place, kind in enumerate(shapesworld.KINDS)]
    found.append(shapesworld.open_example(SEED + len(found)))
    found.append(compound_example(SEED + len(found)))
    return [(each.instruction, each.source) for each in found if each.source]


def edited(asked: Sequence[tuple[str, shapesworld.Scene]]) -> list[Pair]:
    """Return Kontext's edit of each."""
    requests = [
        editkit.EditRequest(image=Image.fromarray(shapesworld.render(source)), instruction=instruction)
        for instruction, source in asked
    ]
    pairs = []
    for request, result in zip(requests, editkit.load("tiny").edit_many(requests), strict=True):
        assert result.image is not None, result.error
        assert isinstance(request.image, Image.Image)
        shown = [contact_sheet.enlarged(each) for each in (request.image, result.image)]
        pairs.append((request.instruction, stacked(shown, GAP)))
    return pairs


def stacked(pictures: Sequence[Image.Image], gap: int = 0) -> Image.Image:
    """Pictures below each other."""
    height = sum(picture.height + gap for picture in pictures) - gap
    made = Image.new("RGB", (max(picture.width for picture in pictures), height), "white")
    top = 0
    for picture in pictures:
        made.paste(picture, (0, top))
        top += picture.height + gap
    return made


if __name__ == "__main__":
    main()
