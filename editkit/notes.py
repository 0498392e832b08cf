"""Notes: things that a person should know about an edit and that stop nothing, each in one sentence.

Code deep below an edit, such as the loader of adapter files, tells its notes here. A single edit collects
them into its result. Where nobody collects, a note is raised as a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from editkit.errors import EditkitWarning

_collected: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def tell(note: str) -> None:
    """Add a note to the collected ones, or raise it as a warning where nobody collects."""
    found = _collected.get()
    if found is None:
        warnings.warn(note, EditkitWarning, stacklevel=3)
    else:
        found.append(note)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Collect the notes told within the block; if the block fails, they are told again outside it."""
    found: list[str] = []
    token = _collected.set(found)
    done = False
    try:
        yield found
        done = True
    finally:
        _collected.reset(token)
        for note in () if done else found:
            tell(note)


def warn(notes: Sequence[str]) -> None:
    """Raise each note once as a warning that points at the caller's caller."""
    for note in dict.fromkeys(notes):
        warnings.warn(note, EditkitWarning, stacklevel=3)
