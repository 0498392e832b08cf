"""Every option that takes a whole number refuses 1.0, which typer alone takes for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
import typer.main

from editkit.cli import UsageError, app
from tests.command_line import Cli, refused


def whole_numbers(command: Any, *above: str) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Each command with the words up to one of its options that is read as an int."""
    for name, each in getattr(command, "commands", {}).items():
        yield from whole_numbers(each, *above, name)
    kinds = get_type_hints(command.callback) if command.callback else {}
    for option in command.params:
        if int in (kind := kinds.get(option.name), *get_args(kind)):
            yield command, (*above, option.opts[-1])


FOUND = list(whole_numbers(typer.main.get_command(app)))
WORDS = [words for _, words in FOUND]


def test_they_are_found() -> None:
    assert {("edit", "--seed"), ("demo", "--port"), ("data", "check", "--limit")} <= set(WORDS)


@pytest.mark.parametrize(("command", "words"), FOUND, ids=[" ".join(words) for words in WORDS])
def test_none_takes_a_fraction(command: Any, words: tuple[str, ...]) -> None:
    """The command is not run, since one that took the fraction would serve a page."""
    with pytest.raises(UsageError) as refusal:
        command.make_context(words[-2], [words[-1], "1.0"])
    assert "1.0 is no whole number" in refusal.value.format_message()


@pytest.mark.parametrize(
    "words", [("data", "check", "--limit"), ("eval", "run", "shapesworld", "--judge-passes")]
)
def test_a_fraction_is_refused_in_one_sentence(words: tuple[str, ...], cli: Cli) -> None:
    refused(cli(*words, "1.0"), f"{words[-1]}.*1.0 is no whole number")
