"""Edits on disk, and changes to their recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

import editkit
from editkit.imaging import images
from editkit.inference import provenance


def written(editor: editkit.Editor, source: object, output: Path, **asked: Any) -> Path:
    """An edit on disk."""
    result = editor.edit(source, "make it blue", steps=2, **asked)
    images.save(result.image, output, result.recipe)
    return output


def rewritten(path: Path, **values: Any) -> Path:
    """The same picture with other things in its recipe."""
    told = provenance.read_recipe(path) | values
    with Image.open(path) as file:
        picture = file.copy()
    images.save(picture, path, told)
    return path
