"""Turns of sessions: their numbers where rows do not tell them, and whether each has a picture to edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from editkit.errors import EditkitError
from editkit.evaluation.records import Item


class EmptyFieldError(EditkitError):
    """A row without something that its item needs."""


class Turn(NamedTuple):
    """A place in a session; of a row of its own the session is empty."""

    session: str
    number: int


MOST = 1_000_000
"""Largest number of a turn."""
LONGEST = 20
"""Largest number of letters of a cell that are read as a number, or shown."""
NONE = Turn("", 0)
"""The turn before the first row."""


def follows(session: str, before: str) -> bool:
    """Whether a row of this session goes on from a row of that one."""
    return session != "" and session == before


def read_turn(value: Any, session: str, before: Turn, where: str) -> int:
    """Return the turn that a row names, else the next one of its session.

    Raises:
        EditkitError: where the row names something else than a whole number from 1 on, or too large a one.
    """
    if value is None or value == "":
        return before.number + 1 if follows(session, before.session) else 1
    number = _whole(value)
    if number < 1:
        raise EmptyFieldError(
            f"The {where} has the turn {repr(value)[:LONGEST]}, which is no whole number from 1 to {MOST:,}."
        )
    return number


def of_broken(row: Mapping[str, Any], session: str, number: str, before: Turn) -> Turn:
    """Return the turn that a broken row takes, so that no later row takes it.

    Args:
        row: the row; where its session cannot be read, it is one of the session before.
        session: the column of the session.
        number: the column of the turn.
        before: the turn of the row before.
    """
    try:
        named = row.get(session)
    except (EditkitError, OSError, ValueError):
        return Turn(before.session, before.number + 1)
    named = "" if named is None else str(named)
    following = before.number + 1 if follows(named, before.session) else 1
    return Turn(named, _whole(row.get(number)) or following)


def _whole(value: Any) -> int:
    """The turn that a cell holds; 0 where it holds none."""
    text = str(value).removesuffix(".0")  # a table with empty cells holds its whole numbers as floats
    return int(text) if text.isdecimal() and len(text) <= LONGEST and int(text) <= MOST else 0


def unsourced(item: Item, before: Item | None) -> str | None:
    """Say why a later turn has nothing to edit; None where it has a source or the turn before it is there.

    Args:
        item: the turn.
        before: the item before it.
    """
    if item.source is not None or item.turn == 1:
        return None
    if before is not None and follows(item.session, before.session) and before.turn == item.turn - 1:
        return None
    return (
        f"The item {item.id!r} has no source picture, and the item before it is not turn {item.turn - 1} of "
        "its session."
    )
