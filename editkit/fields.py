"""Fields of a dataclass: what stands below each in its source says what it means."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache


@cache
def explained(record: type) -> Mapping[str, str]:
    """The text below each field in a dataclass' source, on one line, by the field's name."""
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(made, ast.ClassDef)
    found = {}
    for line, below in zip(made.body, made.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            text = getattr(getattr(below, "value", None), "value", None)
            if isinstance(below, ast.Expr) and isinstance(text, str):
                found[line.target.id] = " ".join(text.split())
    return found


def summary(record: type, name: str) -> str:
    """The first sentence of the text below a field."""
    text = explained(record)[name]
    first, stop, _ = text.partition(". ")
    return first + "." if stop else text
