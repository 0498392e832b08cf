"""Read the fields of `EditRequest` from a form's text or from JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from editkit.inference import search_settings
from editkit.request import FIELDS, PICTURES, EditRequest
from editkit.serving.refusals import RefusedError
from editkit.serving.settings import ServerSettings

SETTINGS = tuple(name for name in FIELDS if name not in (*PICTURES, "instruction"))
"""Fields that a client may give under their own name; the instruction is OpenAI's `prompt`."""
TYPES = get_type_hints(EditRequest, localns={"ImageInput": Path})
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
WHOLE, NUMBER = re.compile(r"-?\d{1,20}"), re.compile(r"-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def read(name: str, given: Any, settings: ServerSettings) -> Any:
    """Return a field's value, of the type that `EditRequest` has.

    Args:
        name: of the field.
        given: text of a form, or a value of JSON.
        settings: what a client may ask for.

    Raises:
        RefusedError: where it is of another type or over a limit.
    """
    if given is None or given == "":
        return None
    if name == "search":
        return _search(given, settings)
    kind = next((each for each in get_args(TYPES[name]) if each is not type(None)), TYPES[name])
    if kind == tuple[int, int]:
        return _size(given, settings)
    value = {int: _whole, float: _number, bool: _boolean, str: _text}[kind](name, given)
    if name == "steps" and value > settings.steps:
        raise RefusedError(f"steps={value} is not allowed; give 1 to {settings.steps}.", param=name)
    return value


def whole(name: str, given: Any, most: int) -> int:
    """Return a whole number from 1 to a largest one.

    Raises:
        RefusedError: where it is none.
    """
    value = _whole(name, given)
    if not 1 <= value <= most:
        raise RefusedError(f"{name}={value} is not allowed; give 1 to {most}.", param=name)
    return value


def _whole(name: str, given: Any) -> int:
    if isinstance(given, str) and WHOLE.fullmatch(given):
        return int(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    raise _wrong(name, given, "a whole number")


def _number(name: str, given: Any) -> float:
    if isinstance(given, str) and NUMBER.fullmatch(given):
        return float(given)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    raise _wrong(name, given, "a number")


def _boolean(name: str, given: Any) -> bool:
    value = BOOLEANS.get(given.lower()) if isinstance(given, str) else given
    if not isinstance(value, bool):
        raise _wrong(name, given, "true or false")
    return value


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise _wrong(name, given, "text")
    return given


def _size(given: Any, settings: ServerSettings) -> tuple[int, int] | None:
    if given == "auto":
        return None
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", given) if isinstance(given, str) else None
    if found is None or "0" in (found[1].lstrip("0") or "0", found[2].lstrip("0") or "0"):
        raise _wrong("size", given, "WIDTHxHEIGHT, such as 1024x768, or auto")
    width, height = int(found[1]), int(found[2])
    if width * height > settings.canvas_pixels:
        allowed = f"{settings.canvas_pixels:,} pixels"
        raise RefusedError(f"size={given} is too large; up to {allowed} are allowed.", param="size")
    return width, height


def _search(given: Any, settings: ServerSettings) -> search_settings.SeedSearch | None:
    """A search's settings: an object, an object as text, or the number of seeds."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise _wrong("search", given, "a number of seeds or an object") from error
    if isinstance(given, int) and not isinstance(given, bool):
        given = {"seeds": given}
    if not isinstance(given, Mapping):
        raise _wrong("search", given, "a number of seeds or an object")
    if "options" in given:
        raise RefusedError("The options of a judge are the operator's; leave them out.", param="search")
    search = search_settings.build(given)
    if search.seeds > settings.seeds:
        raise RefusedError(
            f"A search over {search.seeds} seeds is not allowed; give up to {settings.seeds}.", param="search"
        )
    if search.judge not in settings.judges:
        allowed = ", ".join(settings.judges)
        raise RefusedError(f"The judge {search.judge!r} is not offered; there are {allowed}.", param="search")
    return None if search.seeds == 1 else search


def _wrong(name: str, given: Any, wanted: str) -> RefusedError:
    shown = repr(given)
    shown = f"{shown[:40]}..." if len(shown) > 43 else shown
    return RefusedError(f"{name}={shown} is not allowed; give {wanted}.", param=name)
