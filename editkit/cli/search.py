"""The options of a seed search, made from the fields of `SeedSearch`."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from editkit.cli.options import WHOLE_NUMBER_OPTION, pairs
from editkit.errors import EditkitError
from editkit.fields import summary
from editkit.inference.search_settings import SeedSearch

FLAGS: Mapping[str, str] = {
    "seeds": "--search",
    "judge": "--judge",
    "mode": "--search-mode",
    "preview_steps": "--preview-steps",
    "both_orders": "--both-orders/--one-order",
    "options": "--judge-option",
}
"""Names of the fields as options."""
ContactSheet = Annotated[Path | None, typer.Option(help="Contact sheet to write, with all previews.")]


def parameters() -> Iterator[inspect.Parameter]:
    """The fields as typer reads them; all but the number of seeds are None where they were not given."""
    types = get_type_hints(SeedSearch)
    for field in fields(SeedSearch):
        kind, default = types[field.name] | None, None
        about = f"{summary(SeedSearch, field.name)}{_usual(field)}"
        if field.name == "seeds":
            kind, default = int, 1
        elif field.name == "options":
            kind, about = list[str] | None, f"{about[:-1]}, as key=value; may be repeated."
        reading = WHOLE_NUMBER_OPTION if int in (kind, *get_args(kind)) else {}
        option: Any = typer.Option(FLAGS[field.name], help=about, **reading)
        yield inspect.Parameter(
            f"search_{field.name}",
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, option],
        )


def _usual(field: Field[Any]) -> str:
    if isinstance(field.default, bool):
        return f"  [default: {FLAGS[field.name].partition('/')[0][2:]}]"
    return f"  [default: {field.default}]" if isinstance(field.default, str) else ""


def taken(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that were given, out of what was given, which no longer holds them then."""
    found = {field.name: given.pop(f"search_{field.name}") for field in fields(SeedSearch)}
    found["options"] = pairs(found["options"], "--judge-option") or None
    return {name: value for name, value in found.items() if value is not None}


def requested(given: dict[str, Any], contact_sheet: Path | None) -> dict[str, Any] | None:
    """Return the search that `taken` finds, or None where there is nothing to search.

    Raises:
        EditkitError: for options of a search that is not asked for.
    """
    if given["seeds"] != 1 or contact_sheet is not None:
        return given
    if len(given) > 1:
        raise EditkitError(
            "--judge, --search-mode, --preview-steps, --both-orders, --one-order and --judge-option need "
            "--search with several seeds."
        )
    return None
