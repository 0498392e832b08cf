"""Read the fields of `EditRequest` from text, as forms and tables have it, or from JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_type_hints

from editkit.errors import EditkitError
from editkit.inference import search_settings
from editkit.request import FIELDS, PICTURES, EditRequest

SETTINGS = tuple(name for name in FIELDS if name not in (*PICTURES, "instruction"))
"""Fields that a client may give under their own name; the instruction is OpenAI's `prompt`."""
TYPES = get_type_hints(EditRequest, localns={"ImageInput": Path})
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
WHOLE, NUMBER = re.compile(r"-?\d{1,20}"), re.compile(r"-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


class FieldError(EditkitError):
    """An error for a field's value; `param` is the field's name."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


def read_field(name: str, given: Any) -> Any:
    """Return a field's value, of the type that `EditRequest` has; None where nothing is given.

    Args:
        name: of the field.
        given: text, or a value of JSON.

    Raises:
        EditkitError: where it is of another type.
    """
    if given is None or given == "":
        return None
    if name == "search":
        return _search(given)
    kind = next((each for each in get_args(TYPES[name]) if each is not type(None)), TYPES[name])
    if kind == tuple[int, int]:
        return _size(given)
    return {int: whole, float: _number, bool: _boolean, str: _text}[kind](name, given)


def whole(name: str, given: Any) -> int:
    """Return a whole number.

    Raises:
        FieldError: where it is none.
    """
    if isinstance(given, str) and WHOLE.fullmatch(given):
        return int(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    raise _wrong(name, given, "a whole number")


def _number(name: str, given: Any) -> float:
    if isinstance(given, str) and NUMBER.fullmatch(given):
        return float(given)
    if isinstance(given, int | float) and not isinstance(given, bool):
        with suppress(OverflowError):  # a whole number of JSON may be larger than any float
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


def _size(given: Any) -> tuple[int, int] | None:
    if given == "auto":
        return None
    if isinstance(given, list | tuple) and len(given) == 2:
        given = f"{given[0]}x{given[1]}"
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", given) if isinstance(given, str) else None
    if found is None or "0" in (found[1].lstrip("0") or "0", found[2].lstrip("0") or "0"):
        raise _wrong("size", given, "WIDTHxHEIGHT, such as 1024x768, or auto")
    return int(found[1]), int(found[2])


def _search(given: Any) -> search_settings.SeedSearch | None:
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
    search = search_settings.build(given)
    return None if search.seeds == 1 else search


def _wrong(name: str, given: Any, wanted: str) -> FieldError:
    shown = repr(given)
    shown = f"{shown[:40]}..." if len(shown) > 43 else shown
    return FieldError(f"{name}={shown} is not allowed; give {wanted}.", name)
