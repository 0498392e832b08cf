"""Explanations of dataclass fields: the strings below the fields in the source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache


@cache
def explained(record: type) -> Mapping[str, str]:
    """Return the string below each field in a dataclass' source, on one line, by the field's name."""
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
    """Return the first sentence of a field's explanation."""
    text = explained(record)[name]
    first, stop, _ = text.partition(". ")
    return first + "." if stop else text
