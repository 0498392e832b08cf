"""ImgEdit-Bench: a JSON object of edits by key, and a folder of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit import config as configs
from editkit.errors import EditkitError
from editkit.evaluation.benchmarks.benchmark import BenchmarkConfig
from editkit.evaluation.benchmarks.json_files import read_object
from editkit.evaluation.records import Item, Problem, StoredPicture

BASIC = ("basic_edit.json", "singleturn.json")
"""Names of the file of edits, in the repository and in the archive of pictures."""
TURN = re.compile(r"turn(\d+)")


@dataclass(frozen=True, kw_only=True)
class ImgEditConfig:
    """Options of ImgEdit's readers."""

    pictures: str = ""
    """Folder of the pictures below the data's; beside the file of edits where empty."""


def basic(config: BenchmarkConfig, data: Path | None) -> Iterator[Item | Problem]:
    """The edits of the basic suite.

    Raises:
        EditkitError: where their file cannot be read.
    """
    assert data is not None
    path = _edits(data)
    folder = path.parent / configs.build(ImgEditConfig, config.options).pictures
    for key, row in read_object(path).items():
        where = f"edit {key} of {path}"
        try:
            source, prompt = _text(row, "id", where), _text(row, "prompt", where)
            kind = _text(row, "edit_type", where)
            stem = _key(key, where)
        except EditkitError as error:
            yield Problem(kind="empty field", where=where, sentence=str(error))
            continue
        yield Item(
            id=key,
            instruction=prompt,
            source=StoredPicture(value=source, folder=folder, what=f"source of {where}"),
            category=kind,
            published=f"{stem}.png",
            fields={"key": key, "id": source, "edit_type": kind},
        )


def multi_turn(config: BenchmarkConfig, data: Path | None) -> Iterator[Item | Problem]:
    """The turns of the multi-turn suite; each file of it is a category.

    Raises:
        EditkitError: where there are no files of edits.
    """
    assert data is not None
    files = [data] if data.is_file() else sorted(data.glob("*.json")) or sorted(data.glob("*/*.json"))
    if not files:
        raise EditkitError(
            f"There are no JSON files of edits in {data}; give --data of the multi-turn suite."
        )
    below = configs.build(ImgEditConfig, config.options).pictures
    for path in files:
        for key, row in read_object(path).items():
            yield from _turns(path, key, row, path.parent / below)


def _turns(path: Path, key: str, row: Any, folder: Path) -> Iterator[Item | Problem]:
    where = f"edit {key} of {path}"
    try:
        source, stem = _text(row, "id", where), _key(key, where)
        numbers = sorted(int(found[1]) for name in row if (found := TURN.fullmatch(name)))
        if not numbers or numbers != list(range(1, len(numbers) + 1)):
            raise EditkitError(f"The {where} has no turns from turn1 on without gaps.")
        prompts = [_text(row, f"turn{number}", where) for number in numbers]
    except EditkitError as error:
        yield Problem(kind="empty field", where=where, sentence=str(error))
        return
    session = f"{path.stem}-{key}"
    for number, prompt in enumerate(prompts, start=1):
        first = StoredPicture(value=source, folder=folder, what=f"source of {where}") if number == 1 else None
        yield Item(
            id=f"{session}-{number}",
            instruction=prompt,
            source=first,
            category=path.stem,
            session=session,
            turn=number,
            last=number == len(prompts),
            published=f"{path.stem}/{stem}_turn{number}.png",
            fields={"key": key, "id": source},
        )


def _edits(data: Path) -> Path:
    if data.is_file():
        return data
    for name in BASIC:
        if (data / name).is_file():
            return data / name
    raise EditkitError(f"There is none of {', '.join(BASIC)} in {data}; give --data of the published folder.")


def _key(key: str, where: str) -> str:
    if not re.fullmatch(r"[\w.-]+", key) or key.startswith("."):
        raise EditkitError(f"The {where} has a key that names no file.")
    return key


def _text(row: Any, name: str, where: str) -> str:
    value = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise EditkitError(f"The {where} has no {name}.")
    return value
