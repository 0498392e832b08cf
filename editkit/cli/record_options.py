"""Options of a command, made from the fields of a record."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Annotated, Any, get_args, get_type_hints

import typer

from editkit.cli.options import WHOLE_NUMBER_OPTION
from editkit.fields import summary


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """The command line's form of a field, where it differs from the field's own name and type.

    Attributes:
        flags: its spellings; --field-name if empty.
        kind: the type that the command line reads, or one of the annotations that commands share.
        read: turns what the command line read into the field's value.
        help: one sentence; the first of the field's explanation if None.
        more: further arguments of `typer.Option`.
    """

    flags: tuple[str, ...] = ()
    kind: Any = None
    read: Callable[[Any], Any] | None = None
    help: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def takes_fields(
    record: type, options: Mapping[str, Option], *, defaults: bool
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take fields of a record; it gets those that were given, by name, as its first argument.

    The command's own positional parameters come before the fields, its keyword-only ones after them.

    Args:
        record: a dataclass with an explanation below each field.
        options: how each field is written, by its name.
        defaults: whether a field that was not given has the record's default, which the help shows then;
            otherwise it is absent.
    """
    types, known = get_type_hints(record), {each.name: each for each in fields(record)}

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command).parameters.values()
        last = [each for each in own if each.kind is each.KEYWORD_ONLY]
        made = [_parameter(record, known[name], types[name], options[name], defaults) for name in options]

        def run(**given: Any) -> None:
            values = {name: _read(given.pop(name), options[name]) for name in options}
            command({name: value for name, value in values.items() if value is not None}, **given)

        return with_parameters(command, run, [*(each for each in own if each not in last), *made, *last])

    return decorated


def with_parameters(
    command: Callable[..., None], run: Callable[..., None], parameters: Iterable[inspect.Parameter]
) -> Callable[..., None]:
    """Return `run` with a command's name and docstring, and with parameters that typer reads."""
    keywords = [each.replace(kind=each.KEYWORD_ONLY) for each in parameters]
    named: Any = functools.wraps(command)(run)
    named.__signature__ = inspect.Signature(keywords)  # typer reads these two
    named.__annotations__ = {each.name: each.annotation for each in keywords}
    return named  # type: ignore[no-any-return]


def _parameter(
    record: type, known: Field[Any], kind: Any, option: Option, defaults: bool
) -> inspect.Parameter:
    """A field as typer reads it."""
    default = known.default if defaults else False if kind is bool else None
    flags = option.flags or ((f"--{known.name.replace('_', '-')}",) if kind is bool else ())
    annotation = option.kind or kind
    if not hasattr(annotation, "__metadata__"):
        shown = annotation if default is not None else annotation | None
        reading = WHOLE_NUMBER_OPTION if int in (annotation, *get_args(annotation)) else {}
        about = option.help or summary(record, known.name)
        info: Any = typer.Option(*flags, help=about, **{**reading, **option.more})
        annotation = Annotated[shown, info]
    return inspect.Parameter(
        known.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _read(value: Any, option: Option) -> Any:
    """A field's value; None where nothing was given."""
    if value is None or value is False:
        return None
    return option.read(value) if option.read else value


def listed(text: str | None) -> list[str]:
    """Names with commas between, as a list."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]
