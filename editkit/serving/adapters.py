"""Adapters that a request may name: files of the one folder that the operator allowed."""

from __future__ import annotations

from pathlib import Path

from editkit.errors import unknown
from editkit.serving.refusals import RefusedError

SUFFIX = ".safetensors"


def names(folder: Path | None) -> list[str]:
    """List the folder's adapters: its files without their suffix, links to elsewhere left out."""
    if folder is None:
        return []
    home = folder.resolve()
    files = (each for each in folder.glob(f"*{SUFFIX}") if each.is_file() and each.resolve().parent == home)
    return sorted(each.stem for each in files)


def path(folder: Path | None, name: str) -> Path:
    """Find an adapter by its name, which is compared with those that are there and never joined to a path.

    Raises:
        RefusedError: where none is called so.
    """
    known = names(folder)
    if folder is None or not known:
        raise RefusedError("No adapters are offered here; leave adapter out.", param="adapter")
    if name not in known:
        raise RefusedError(unknown("adapter", name[:80], known), param="adapter")
    return folder / f"{name}{SUFFIX}"
