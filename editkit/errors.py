"""The one exception that is written for people."""

import difflib
import re
from collections.abc import Iterable


class EditkitError(Exception):
    """One sentence: what was given, what is allowed, what to do. The CLI exits with status 2 on it."""


class NoAdapterError(EditkitError):
    """A method has no adapter of its own for a base model; it can go without."""


def first_sentence(error: Exception) -> str:
    """The start of a library's message, short enough to stand within a sentence of one's own."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.split(r"[.!?]\s", line)[0][:200].rstrip(".: ")


class EditkitWarning(UserWarning):
    """Something that a person should know and that stops nothing, in one sentence."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a name that is not there."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {close[0]!r}" if close else ""
    return f"There is no {what} {name!r}; there are {', '.join(known)}{hint}."
