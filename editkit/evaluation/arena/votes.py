"""Votes in SQLite, which many voters and processes may write at once."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from editkit import atomic_files
from editkit.errors import EditkitError, first_sentence
from editkit.evaluation.arena.contest import Duel

LEFT, RIGHT, TIE = "left", "right", "tie"
PATIENCE = 30.0
"""Seconds that a write waits for others."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    voter TEXT NOT NULL,
    item TEXT NOT NULL,
    quality TEXT NOT NULL,
    first TEXT NOT NULL,
    second TEXT NOT NULL,
    winner TEXT NOT NULL CHECK (winner IN (first, second, '')),
    on_the_left TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (voter, item, first, second, quality)
) WITHOUT ROWID
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vote:
    """One voter's answer to one question about one pair.

    Attributes:
        voter: a random name.
        item: the item's id.
        quality: what was asked.
        first: a contestant; the earlier by name.
        second: the other one.
        winner: one of both, or empty for a tie.
        on_the_left: who was shown on the left.
        at: seconds since 1970.
    """

    voter: str
    item: str
    quality: str
    first: str
    second: str
    winner: str
    on_the_left: str
    at: float


COLUMNS = [each.name for each in fields(Vote)]


class Votes:
    """A file of votes.

    Args:
        path: made where it is not there yet.

    Raises:
        EditkitError: where it cannot be opened or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EditkitError(f"The votes {path} cannot be kept ({error.strerror}).") from error
        with self._open() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(SCHEMA)

    def add(self, voter: str, duel: Duel, answers: Mapping[str, str]) -> int:
        """Keep a voter's answers to one pair, all or none; those that are there already stay as they are.

        Args:
            voter: a name of their own.
            duel: what was shown.
            answers: `left`, `right` or `tie` by quality.

        Returns:
            How many answers are new.

        Raises:
            EditkitError: for another answer, or where the file cannot be written.
        """
        if strange := [each for each in answers.values() if each not in (LEFT, RIGHT, TIE)]:
            raise EditkitError(f"A vote must be left, right or tie, not {strange[0]!r}.")
        won = {LEFT: duel.left, RIGHT: duel.right, TIE: ""}
        rows = [
            (voter, duel.item, quality, *duel.pair, won[answer], duel.left, time.time())
            for quality, answer in answers.items()
        ]
        with self._open() as connection:
            before = connection.total_changes
            connection.executemany(
                f"INSERT OR IGNORE INTO votes ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
            return connection.total_changes - before

    def all(self) -> list[Vote]:
        """All votes, in the order of time."""
        with self._open() as connection:
            found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM votes ORDER BY at, voter, quality")
            return [Vote(**dict(zip(COLUMNS, row, strict=True))) for row in found]

    def counts(self, qualities: Sequence[str]) -> dict[tuple[str, tuple[str, str]], int]:
        """Numbers of voters on any of these qualities, by item and pair."""
        with self._open() as connection:
            found = connection.execute(
                "SELECT item, first, second, COUNT(DISTINCT voter) FROM votes "
                f"WHERE quality IN ({_marks(qualities)}) GROUP BY item, first, second",
                (*qualities,),
            )
            return {(item, (first, second)): count for item, first, second, count in found}

    def seen(self, voter: str, qualities: Sequence[str]) -> set[tuple[str, tuple[str, str]]]:
        """Items and pairs on which a voter has voted in any of these qualities."""
        with self._open() as connection:
            found = connection.execute(
                f"SELECT item, first, second FROM votes WHERE voter = ? AND quality IN ({_marks(qualities)})",
                (voter, *qualities),
            )
            return {(item, (first, second)) for item, first, second in found}

    def export(self, path: Path) -> int:
        """Write all votes as CSV or JSON by the file's name; returns how many.

        Raises:
            EditkitError: for another name, or where the file cannot be written.
        """
        found = [asdict(vote) for vote in self.all()]
        if path.suffix == ".json":
            text = json.dumps(found, indent=1) + "\n"
        elif path.suffix == ".csv":
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
            text = buffer.getvalue()
        else:
            raise EditkitError(f"Votes are exported as .csv or .json, and {path} is neither.")
        with atomic_files.whole(path) as file:
            file.write(text.encode())
        return len(found)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for each use, as threads may not share one; what is done in it is one act."""
        try:
            connection = sqlite3.connect(self.path, timeout=PATIENCE)
            try:
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise EditkitError(
                f"The votes {self.path} cannot be used ({first_sentence(error)}); give another --votes."
            ) from error


def _marks(values: Sequence[str]) -> str:
    """SQL's places for so many values."""
    return ", ".join("?" * len(values))
