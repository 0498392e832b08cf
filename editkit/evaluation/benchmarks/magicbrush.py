"""MagicBrush's test set as it is unpacked: sessions, captions, and a folder of pictures a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit import config as configs
from editkit.errors import EditkitError
from editkit.evaluation.benchmarks.benchmark import BenchmarkConfig
from editkit.evaluation.benchmarks.json_files import read_object
from editkit.evaluation.records import Item, Problem, StoredPicture

SESSIONS = "edit_sessions.json"
CAPTIONS = ("local_descriptions.json", "local_captions.json", "global_descriptions.json")
"""Files of captions, by session and picture; the first that is there counts."""


@dataclass(frozen=True, kw_only=True)
class MagicBrushConfig:
    """Options of the reader `magicbrush`."""

    turns: str = "single"
    """`single`: each turn starts from the true answer of the turn before; `multi`: from the result before."""

    def __post_init__(self) -> None:
        if self.turns not in ("single", "multi"):
            raise ValueError(f"turns must be single or multi, not {self.turns!r}")


def items(config: BenchmarkConfig, data: Path | None) -> Iterator[Item | Problem]:
    """The turns of all sessions, session by session.

    Raises:
        EditkitError: where the sessions cannot be read.
    """
    assert data is not None
    options = configs.build(MagicBrushConfig, config.options)
    folder = data.parent if data.is_file() else data
    sessions = read_object(data if data.is_file() else folder / SESSIONS)
    captions = next((read_object(folder / name) for name in CAPTIONS if (folder / name).is_file()), {})
    for session, turns in sessions.items():
        where = f"session {session} of {folder / SESSIONS}"
        if not isinstance(turns, list) or not turns:
            yield Problem(kind="unreadable row", where=where, sentence=f"The {where} is no list of turns.")
            continue
        if Path(session).name != session or session in ("", ".."):
            problem = f"The {where} has a name that no folder can have."
            yield Problem(kind="unreadable row", where=where, sentence=problem)
            continue
        told = captions.get(session)
        yield from _session(
            session,
            turns,
            folder / "images" / session,
            told if isinstance(told, dict) else {},
            options,
            where,
        )


def _session(
    session: str,
    turns: Sequence[Any],
    folder: Path,
    captions: Mapping[str, Any],
    options: MagicBrushConfig,
    where: str,
) -> Iterator[Item | Problem]:
    chained = options.turns == "multi"
    for number, turn in enumerate(turns, start=1):
        here = f"turn {number} of {where}"
        try:
            row = {name: _text(turn, name, here) for name in ("input", "output", "instruction")}
            mask = _text(turn, "mask", here) if turn.get("mask") else None
        except EditkitError as error:
            yield Problem(kind="empty field", where=here, sentence=str(error))
            continue
        yield Item(
            id=f"{session}-{number}",
            instruction=row["instruction"],
            source=_stored(folder, row["input"], f"source of {here}") if number == 1 or not chained else None,
            answer=_stored(folder, row["output"], f"answer of {here}"),
            mask=_stored(folder, mask, f"mask of {here}") if mask and not chained else None,
            mask_means="erased",
            source_caption=str(captions.get(row["input"], "")),
            answer_caption=str(captions.get(row["output"], "")),
            session=session,
            turn=number,
            last=number == len(turns),
            published=published(session, number, chained),
            fields={"img_id": session},
        )


def published(session: str, turn: int, chained: bool) -> str:
    """Return the path at which the official evaluation looks for a result."""
    way = "" if turn == 1 else "iter_" if chained else "inde_"
    return f"{session}/{session}_{way}{turn}.png"


def _text(turn: Any, name: str, where: str) -> str:
    value = turn.get(name) if isinstance(turn, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise EditkitError(f"The {where} has no {name}.")
    return value


def _stored(folder: Path, name: str, what: str) -> StoredPicture:
    return StoredPicture(value=Path(name).name, folder=folder, what=what)
