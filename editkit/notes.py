"""Notes: what a person should know about an edit and that stops nothing, each in one sentence.

What an edit itself finds is in its result. What is found further down, such as in an adapter's file, is told
here: a single edit collects it into its result; where nobody collects, it is a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from editkit.errors import EditkitWarning

_collected: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def tell(note: str) -> None:
    """Hand a note to whoever collects, or warn."""
    found = _collected.get()
    if found is None:
        warnings.warn(note, EditkitWarning, stacklevel=3)
    else:
        found.append(note)


@contextmanager
def collected() -> Iterator[list[str]]:
    """A list of the notes that are told within; where what is within fails, they are told outside."""
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
    """Raise each note once as a warning, in the name of whoever called the caller."""
    for note in dict.fromkeys(notes):
        warnings.warn(note, EditkitWarning, stacklevel=3)
