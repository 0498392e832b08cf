"""What the files of a run hold, as shapes of JSON values, and the check of a value against its shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from editkit.evaluation.metrics.base import HIGHER, LOWER, NEITHER

LARGEST = 2**63 - 1
"""Largest whole number that a table takes."""

Shape = Any
"""A type; a literal text, or None, which stands for an absent key too; `{key: shape}`, in which further keys
are allowed; `[shape]` for a list; `Each`; or a tuple of shapes, of which one must fit. A float is finite."""


@dataclass(frozen=True, slots=True)
class Each:
    """An object whose keys are free.

    Attributes:
        of: the shape of its values.
    """

    of: Shape


def fits(value: Any, shape: Shape) -> bool:
    """Return whether a JSON value has a shape."""
    if isinstance(shape, tuple):
        return any(fits(value, each) for each in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(each, shape[0]) for each in value)
    if isinstance(shape, Each):
        return isinstance(value, dict) and all(fits(each, shape.of) for each in value.values())
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(fits(value.get(key), each) for key, each in shape.items())
    if isinstance(shape, str) or shape is None:
        return type(value) is type(shape) and bool(value == shape)
    if shape in (int, float):
        kinds = int if shape is int else (int, float)
        return (
            isinstance(value, kinds)
            and not isinstance(value, bool)
            and (isinstance(value, float) or abs(value) <= LARGEST)
            and math.isfinite(value)
        )
    return isinstance(value, shape)


COLUMN = {
    "name": str,
    "better": (HIGHER, LOWER, NEITHER),
    "meaning": str,
    "unit": (str, None),
    "failed": (float, None),
    "always": (bool, None),
}
RUN = {
    "benchmark": dict.fromkeys(("name", "title", "note", "primary", "export"), str),
    "config": {
        "benchmark": str,
        "data": (str, None),
        "limit": (int, None),
        "methods": [str],
        "backbone": str,
        "steps": (int, None),
        "seed": int,
    },
    "contents": {"count": int, "digest": str},
    "identity": dict,
    "left_out": Each(str),
    "made_with": {"editkit": str},
    "methods": [str],
    "metrics": Each({"columns": [COLUMN], "depends on": dict}),
    "results": Each(str),
}
"""The settings of a run: `run.json`."""
ITEM = {
    **dict.fromkeys(("id", "instruction", "category", "session", "published", "stem"), str),
    "turn": int,
    "last": bool,
    "fields": dict,
}
"""A line of `items.jsonl`."""
PROBLEM = dict.fromkeys(("kind", "where", "sentence"), str)
"""A line of `problems.jsonl`."""
EDIT = {
    "method": str,
    "item": str,
    "place": int,
    "error": (str, None),
    "picture": str,
    "cost": Each(float),
}
"""A line of the log of results."""
NOTES = {"error": (str, None), "said": ([str], None), "problems": (Each(int), None)}
SCORES = {
    "method": str,
    "item": str,
    "scores": (Each({"values": Each(float), "notes": (NOTES, None), "error": (str, None)}), None),
    "error": (str, None),
    "metrics": ([str], None),
    "asked": ([str], None),
}
"""A line of the log of scores: `scores` by metric, or `error` and the `metrics` that it stopped; of a failure
also the metrics that its item asks for."""
GALLERY = {
    "column": str,
    "methods": Each([{"which": str, "item": str, "pictures": Each((str, None))}]),
}
"""The best and worst results: `gallery.json`."""
