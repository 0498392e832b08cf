"""Define errors and warnings whose messages are written for people."""

import difflib
import re
from collections.abc import Iterable


class EditkitError(Exception):
    """An error in one sentence: what was given, what is allowed, what to do. The CLI then exits with 2."""


class NoAdapterError(EditkitError):
    """An error for a method without a default adapter for a base model; it can run without one."""


def first_sentence(error: BaseException) -> str:
    """Return the start of a library's message, short enough to stand inside another sentence."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.split(r"[.!?]\s", line)[0][:200].rstrip(".: ")


class EditkitWarning(UserWarning):
    """A warning in one sentence; it stops nothing."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Write the error sentence for an unknown name, with the known names and the nearest one."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {close[0]!r}" if close else ""
    return f"There is no {what} {name!r}; there are {', '.join(known)}{hint}."
