"""Options of commands that ask for an edit, made from the fields of `EditRequest`."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from editkit.cli import completion, search
from editkit.cli.options import WHOLE_NUMBER_OPTION
from editkit.cli.pictures import given
from editkit.cli.record_options import with_parameters
from editkit.cli.terminal import Quiet, Verbose, verbosity
from editkit.errors import EditkitError
from editkit.fields import summary
from editkit.request import PICTURES, EditRequest

FLAGS: Mapping[str, tuple[str, ...]] = {
    "method": ("-m", "--method"),
    "references": ("--ref",),
    "preserve": ("--preserve",),
    "align": ("--align",),
}
"""Options of fields, where these are not their name behind two dashes."""
CALLED = {"prompt": "The whole picture in words."}
"""Help of fields that a command calls by another name."""
FIRST = ("image", "instruction", "method")
"""Fields that come before a command's own positional parameters."""
MANY = "several, or a folder, with -o FOLDER; - for stdin."
TYPES = get_type_hints(EditRequest, localns={"ImageInput": Path})
KNOWN: Mapping[str, Field[Any]] = {field.name: field for field in fields(EditRequest)}


def takes(*names: str, many: str = "", **called: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take fields of an edit; it gets them, by name, as its first argument.

    The command's own positional parameters stand behind the first fields, its keyword-only ones at the end.

    Args:
        names: of fields.
        many: a field that comes as a list of paths.
        called: what a field is called on the command line where it is not its own name.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command).parameters.values()
        last = [each for each in own if each.kind is each.KEYWORD_ONLY]
        parameters = [
            *(each for name in names if name in FIRST for each in _parameters(name, called, many)),
            *(each for each in own if each not in last),
            *(each for name in names if name not in FIRST for each in _parameters(name, called)),
            *last,
            inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet),
            inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Verbose),
        ]

        def run(**given: Any) -> None:
            verbosity.add(given.pop("quiet"), given.pop("verbose"))
            asked = {name: _taken(name, given, called) for name in names}
            command(asked, **given)

        return with_parameters(command, run, parameters)

    return decorated


def _parameters(name: str, called: Mapping[str, str], many: str = "") -> Iterator[inspect.Parameter]:
    """A field as typer reads it."""
    if name == "search":
        yield from search.parameters()
        return
    kind, default, about = _plain(TYPES[name]), KNOWN[name].default, summary(EditRequest, name)
    about = CALLED.get(called.get(name, name), about)
    reading: dict[str, Any] = {"parser": given, "metavar": "PICTURE"} if name in PICTURES else {}
    if kind is int:
        reading = dict(WHOLE_NUMBER_OPTION)
    if name == "method":
        reading["autocompletion"] = completion.methods
    info: Any = typer.Option(*FLAGS.get(name, ()), help=about, **reading)
    if default is MISSING:
        info, default = typer.Argument(help=about, **reading), inspect.Parameter.empty
        if name == many:
            info.help, kind = f"{about[:-1]}; {MANY}", list[Path]
    elif kind is bool:
        default = False
    elif kind == tuple[int, int]:
        info, kind = typer.Option(metavar="WIDTHxHEIGHT", help=about), str
    elif get_origin(kind) is Sequence:
        info.help, kind, default = f"{about[:-1]}; may be repeated.", list[Path], None
    shown = kind | None if default is None else kind
    yield inspect.Parameter(
        called.get(name, name),
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[shown, info],
    )


def _taken(name: str, given: dict[str, Any], called: Mapping[str, str]) -> Any:
    """A field's value out of what was given, which no longer holds it then."""
    if name == "search":
        return search.taken(given)
    kind, value = TYPES[name], given.pop(called.get(name, name))
    if _plain(kind) == tuple[int, int]:
        return sides(value)
    if get_origin(kind) is Sequence:
        return tuple(value or ())
    return value or None if kind == bool | None else value


def _plain(kind: Any) -> Any:
    """A type without the None that it may allow."""
    inner = [each for each in get_args(kind) if each is not type(None)]
    return inner[0] if type(None) in get_args(kind) else kind


def sides(text: str | None, option: str = "--size ") -> tuple[int, int] | None:
    """WIDTHxHEIGHT as numbers.

    Raises:
        EditkitError: where it is not of that form.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text.lower())
    if found is None:
        raise EditkitError(f"{option}{text} is not allowed; give WIDTHxHEIGHT, such as 1024x768.")
    return int(found[1]), int(found[2])
