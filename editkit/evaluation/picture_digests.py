"""Notice pictures of a benchmark that change between two calls of one run."""

from __future__ import annotations

from collections.abc import Iterable

from editkit.errors import EditkitError
from editkit.evaluation.records import Item, Problem
from editkit.evaluation.run_folder import RunFolder, settled
from editkit.evaluation.settings import RunConfig

Digests = dict[str, dict[str, str]]
"""Digests of pictures by an item's id and the picture's name."""


def digests(found: Iterable[Item | Problem]) -> Digests:
    """Hash the pictures of all items; one that is not there has no digest."""
    return {item.id: _of(item) for item in found if isinstance(item, Item)}


def check_unchanged(folder: RunFolder, now: Digests, config: RunConfig) -> None:
    """Check that results and scores which are there come from the pictures that are there now.

    Pictures of what failed may change: to correct them is the way to go on. Older runs have no digests.

    Raises:
        EditkitError: where an item has a result of another picture.
    """
    elsewhere = folder.settings["results"]
    edited = {
        item
        for (method, item), edit in folder.edits().items()
        if edit.error is None and method not in elsewhere
    }
    scored = {line["item"] for line in folder.scores() if settled(line.get("scores") or {})}
    after_edits = ("answer",) if config.masks else ("answer", "mask")
    for line in folder.items():
        item, before = line["id"], line.get("pictures") or {}
        for name, digest in now.get(item, {}).items():
            used = item in scored or (item in edited and name not in after_edits)
            if used and before.get(name, digest) != digest:
                raise EditkitError(
                    f"The {name} of {item} has changed since this run used it; choose another --out, which "
                    "edits and scores all items anew, or put the old picture back."
                )


def _of(item: Item) -> dict[str, str]:
    pictures = {"source": item.source, "answer": item.answer, "mask": item.mask}
    pictures |= {f"reference {number}": each for number, each in enumerate(item.references, 1)}
    found = {name: stored.digest() for name, stored in pictures.items() if stored is not None}
    return {name: digest for name, digest in found.items() if digest}
