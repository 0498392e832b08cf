"""Surface: public names, signatures and fields."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import editkit


def test_public_names() -> None:
    assert set(editkit.__all__) == {
        "EditRequest",
        "EditResult",
        "EditkitError",
        "Editor",
        "Replay",
        "SeedSearch",
        "Session",
        "backbones",
        "load",
        "load_session",
        "methods",
        "replay",
    }
    for name in editkit.__all__:
        assert getattr(editkit, name).__module__.startswith("editkit.")
    with pytest.raises(AttributeError, match="nothing"):
        editkit.nothing  # noqa: B018
    assert re.fullmatch(r"\d+\.\d+\.\d+", editkit.__version__)


def bare(function: Callable[..., Any]) -> str:
    """A signature without annotations, whose spelling differs between versions of Python."""
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


SIGNATURES = {
    "load": "(backbone='tiny', device=None, dtype=None, *, options=None, lora=None, **loading)",
    "methods": "()",
    "backbones": "()",
    "Editor": "(backbone, options=None, lora=None)",
    "Editor.edit": (
        "(self, image, instruction, method='kontext', *, task=None, seed=0, steps=None, guidance=None, "
        "mask=None, references=(), size=None, preserve=None, align=False, negative=None, "
        "speed='exact', search=None, watch=None)"
    ),
    "Editor.edit_many": "(self, requests, batch_size=32, *, watch=None)",
    "Editor.session": "(self, image, folder=None)",
    "replay": "(path, *, image=None, mask=None, references=(), device=None, lora=None, editor=None)",
    "load_session": "(folder, editor=None)",
    "Session.edit": "(self, instruction, method='kontext', **fields)",
    "Session.adopt": "(self, result)",
    "Session.branch": "(self, number)",
    "Session.save": "(self, folder)",
    "Editor.load_adapter": "(self, path, method='kontext', name=None)",
    "Editor.use_adapters": "(self, names, scales=None, method='kontext')",
    "Editor.method": "(self, name)",
    "EditRequest": (
        "(*, image, instruction, method='kontext', task=None, mask=None, references=(), seed=0, steps=None, "
        "guidance=None, size=None, preserve=None, align=False, negative=None, speed='exact', search=None)"
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    found = editkit
    for part in name.split("."):
        found = getattr(found, part)
    assert bare(found) == SIGNATURES[name]


def test_request_and_edit_agree() -> None:
    """What a single edit takes is what a request holds."""
    taken = set(inspect.signature(editkit.Editor.edit).parameters) - {"self", "watch"}
    assert taken == {field.name for field in dataclasses.fields(editkit.EditRequest)}


def test_result_fields() -> None:
    assert [field.name for field in dataclasses.fields(editkit.EditResult)] == [
        "image",
        "method",
        "seed",
        "recipe",
        "timings",
        "notes",
        "error",
        "search",
        "change",
        "alignment",
    ]
