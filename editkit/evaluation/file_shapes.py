"""Shapes of the JSON values in a run's files, and the check of a value against its shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from editkit.evaluation.metrics.base import HIGHER, LOWER, NEITHER, Column
from editkit.evaluation.records import Edit, Problem
from editkit.evaluation.settings import LARGEST

Shape = Any
"""A type, as a record's field has it; a literal text, or None, which stands for an absent key too;
`{key: shape}`, in which further keys are allowed; `{str: shape}`, whose keys are free; `[shape]` for a list;
or a tuple of shapes, of which one must fit. A float is finite."""


def fits(value: Any, shape: Shape) -> bool:
    """Return whether a JSON value has a shape."""
    origin: Any = get_origin(shape)
    if origin is UnionType:
        shape = get_args(shape)
    if origin is Mapping:
        shape = dict([get_args(shape)])
    if isinstance(shape, tuple):
        return any(fits(value, each) for each in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(each, shape[0]) for each in value)
    if isinstance(shape, dict) and str in shape:
        return isinstance(value, dict) and all(fits(each, shape[str]) for each in value.values())
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
    **get_type_hints(Column),
    "better": (HIGHER, LOWER, NEITHER),
    "unit": (str, None),
    "always": (bool, None),  # older runs do not tell
}
RUN = {
    "adapters": ({str: {str: str}}, None),  # older runs do not tell
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
    "left_out": {str: str},
    "made_with": {"editkit": str},
    "methods": [str],
    "metrics": {str: {"columns": [COLUMN], "depends on": dict}},
    "results": {str: str},
}
"""The settings of a run: `run.json`."""
ITEM = {
    **dict.fromkeys(("id", "instruction", "category", "session", "published", "stem"), str),
    "turn": int,
    "last": bool,
    "fields": dict,
    "pictures": ({str: str}, None),  # older runs do not tell
}
"""A line of `items.jsonl`."""
PROBLEM = get_type_hints(Problem)
"""A line of `problems.jsonl`."""
EDIT = get_type_hints(Edit)
"""A line of the log of results."""
NOTES = {"error": (str, None), "said": ([str], None), "problems": ({str: int}, None)}
SCORES = {
    "method": str,
    "item": str,
    "scores": ({str: {"values": {str: float}, "notes": (NOTES, None), "error": (str, None)}}, None),
    "error": (str, None),
    "metrics": ([str], None),
    "asked": ([str], None),
}
"""A line of the log of scores: `scores` by metric, or `error` and the `metrics` that it stopped; of a failure
also the metrics that its item asks for."""
GALLERY = {
    "column": str,
    "methods": {str: [{"which": str, "item": str, "pictures": {str: (str, None)}}]},
}
"""The best and worst results: `gallery.json`."""
