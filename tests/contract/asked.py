"""Instructions that every method is given."""

from __future__ import annotations

from typing import Any

import torch

import editkit
from editkit.method import Method
from editkit.types import EditInputs
from tests.pictures import photo

FILES = {"__init__.py", "config.py", "conditioner.py", "sampler.py", "trainer.py", "README.md"}

WORDS = ("make the red circle blue", "remove the green square")


Case = tuple[Method, dict[str, Any]]

OTHER_WAYS: dict[str, list[dict[str, Any]]] = {
    "kontext": [{"layout": "offset"}, {"layout": "stitch", "sizes": "exact"}],
    "icedit": [{"template": "paper", "loss": "right", "encoding": "mode"}],
    "aceplus": [{"layout": "sequence"}, {"model": "full"}, {"model": "full", "layout": "sequence"}],
}
"""Options under which a method conditions otherwise than by default, and has to keep the contract too."""

CASES: list[Case] = [
    (record, way) for record in editkit.methods() for way in ({}, *OTHER_WAYS.get(record.name, ()))
]

USUAL = [case for case in CASES if not case[1]]
"""Each method once, for what its options have no part in."""


def named(case: Case) -> str:
    """A case's name in the list of tests."""
    method, options = case
    return " ".join((method.name, *options))


def inputs(width: int = 128, height: int = 128, count: int = 2) -> EditInputs:
    return EditInputs(
        prompts=WORDS[:count], source_BCHW=torch.cat([photo(width, height, seed) for seed in range(count)])
    )
