"""A few pairs to train on, as visitors of the page bring them."""

from __future__ import annotations

import zipfile
from pathlib import Path

from PIL import Image

COUNT = 10
SIDE = 128


def written(folder: Path, spoilt: bool = False) -> Path:
    """Write squares that change their colour; where spoilt, the last pair has two shapes."""
    for place in range(COUNT):
        for name, colour in (("source", (200, 30 + place, 20)), ("answer", (20, 30 + place, 200))):
            (folder / name).mkdir(parents=True, exist_ok=True)
            flat = spoilt and (place, name) == (COUNT - 1, "answer")
            picture = Image.new("RGB", (SIDE, SIDE // 2 if flat else SIDE), (90, 90, 90))
            picture.paste(colour, (40, 16, 90, 60))
            picture.save(folder / name / f"{place:02}.png")
        (folder / "answer" / f"{place:02}.txt").write_text("make the red square blue")
    return folder


def packed(folder: Path) -> Path:
    """Pack the pairs of a folder into a zip archive beside it."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted(folder.rglob("*.*")):
            made.write(path, Path(folder.name) / path.relative_to(folder))
    return archive
