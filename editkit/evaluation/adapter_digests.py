"""Notice adapters that change between two calls of one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from editkit.errors import EditkitError
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig

Digests = dict[str, dict[str, str]]
"""Digests of the files of adapters, by method and by what the settings call them."""


def digests(config: RunConfig) -> Digests:
    """Hash the adapters on this machine that each method is given; those of the Hub have none.

    Raises:
        EditkitError: where a file cannot be read.
    """
    found: Digests = {}
    for method in config.methods:
        given = (*config.lora, config.variant(method).options.get("adapter"))
        found[method] = {name: digest for name in given if isinstance(name, str) and (digest := _of(name))}
    return found


def check_unchanged(folder: RunFolder, now: Digests) -> None:
    """Check that the edits which are there are of the adapters that are there now.

    Adapters of a method that has made nothing yet may change. Older runs have no digests.

    Raises:
        EditkitError: where a method has edited with another one.
    """
    before: Mapping[str, Mapping[str, str]] = folder.settings.get("adapters") or {}
    edited = {method for (method, _), edit in folder.edits().items() if edit.error is None}
    for method in now.keys() & edited:
        for name, digest in now[method].items():
            if before.get(method, {}).get(name, digest) != digest:
                raise EditkitError(
                    f"The adapter {name} has changed since {method} edited with it; choose another --out, "
                    "which edits all items anew, or put the old adapter back."
                )


def joined(before: Mapping[str, Mapping[str, str]], now: Digests) -> Digests:
    """Digests of an earlier call and of this one, which counts where both have one."""
    return {method: {**before.get(method, {}), **now.get(method, {})} for method in {**before, **now}}


def _of(name: str) -> str:
    from editkit import adapters

    return adapters.digest(name) if Path(name).exists() and adapters.file(name).is_file() else ""
