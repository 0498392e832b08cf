"""Benchmarks whose rows are items: JSONL, parquet, arrow, CSV, and folders of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Formatter
from typing import Any

from editkit import config as configs
from editkit.data import layouts
from editkit.data.records import DataConfig
from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import turns
from editkit.evaluation.benchmarks.benchmark import BenchmarkConfig
from editkit.evaluation.benchmarks.turns import EmptyFieldError, Turn
from editkit.evaluation.records import Item, Problem, StoredPicture

PICTURES = ("source", "answer", "mask")
TEXTS = ("instruction", "category", "source_caption", "answer_caption", "session")


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Options of the reader `table`."""

    layout: str = "jsonl"
    """One of editkit's layouts of data: jsonl, csv, table, folders, webdataset, huggingface."""
    files: list[str] = field(default_factory=list)
    """Where the rows are below the data's folder: the first of these that is there."""
    split: str = "test"
    """Of a Hugging Face dataset."""
    columns: dict[str, str] = field(default_factory=dict)
    """The row's columns by the item's fields: source, answer, mask, references, instruction, category, words,
    source_caption, answer_caption, session, turn."""
    id: str = "{place:06d}"
    """Pattern of ids: the row's columns, `place`, its number, and `stem`, its answer's file name."""
    result: str = "{id}.png"
    """Pattern of the published names of results."""
    where: dict[str, str] = field(default_factory=dict)
    """Values that a row's columns must have; other rows belong to another benchmark."""
    fields: list[str] = field(default_factory=list)
    """Columns that exports need."""
    mask_means: str = "white"
    """`white` or `erased`; see `Item`."""
    needs_source: bool = True
    """Whether a row must have a source; where not, one without it is text to image."""


def items(config: BenchmarkConfig, data: Path | None) -> Iterator[Item | Problem]:
    """The rows of a table as items, and those that are none as problems.

    Raises:
        EditkitError: where the table cannot be read or lacks a column.
    """
    assert data is not None
    options = configs.build(TableConfig, config.options)
    path = _found(data, options.files)
    folder = path if path.is_dir() else path.parent
    before: Item | None = None  # held back until it is known whether its session goes on
    turn = turns.NONE
    for place, row in enumerate(_rows(path, options)):
        where = f"row {place} of {path}"
        try:
            if place == 0:
                _check_columns(row, options, path)
            if any(str(row.get(column)) != value for column, value in options.where.items()):
                continue
            made = _item(row, place, options, folder, where, turn)
        except (EditkitError, OSError, ValueError) as error:
            if place == 0 and isinstance(error, MissingColumnError):
                raise
            session, number = (options.columns.get(name, name) for name in ("session", "turn"))
            turn = turns.of_broken(row, session, number, turn)
            yield _problem(error, where)
        else:
            if before is not None:
                yield replace(before, last=not turns.follows(made.session, before.session))
            before, turn = made, Turn(made.session, made.turn)
    if before is not None:
        yield before


def _problem(error: Exception, where: str) -> Problem:
    told = str(error) if isinstance(error, EditkitError) else f"The {where} cannot be read ({error})."
    return Problem(kind=kind_of(error), where=where, sentence=told)


class MissingColumnError(EditkitError):
    """A table that has not the columns of its benchmark."""


def kind_of(error: Exception) -> str:
    """Return the kind under which a row's problem is counted."""
    return "empty field" if isinstance(error, EmptyFieldError) else "unreadable row"


def _found(data: Path, files: list[str]) -> Path:
    if not files or data.is_file():
        return data
    for name in files:
        if (data / name).exists():
            return data / name
    raise EditkitError(f"There is none of {', '.join(files)} in {data}; give --data of the published folder.")


def _rows(path: Path, options: TableConfig) -> Iterable[Mapping[str, Any]]:
    if options.layout in layouts.LENIENT:
        if path.is_dir():
            raise EditkitError(f"{path} is a folder; give --data of a file of rows.")
        return layouts.LENIENT[options.layout](path)
    if options.layout not in layouts.LAYOUTS:
        raise EditkitError(
            f"options.layout must be one of {', '.join(layouts.LAYOUTS)}, not {options.layout!r}."
        )
    settings = DataConfig(name=options.layout, path=str(path), split=options.split)
    return layouts.LAYOUTS[options.layout](path, settings)


def _check_columns(row: Mapping[str, Any], options: TableConfig, path: Path) -> None:
    known = set(row)
    if not known:  # a row that says why it is none
        return
    names = ("source", "instruction") if options.needs_source else ("instruction",)
    needed = [options.columns.get(name, name) for name in names]
    needed += [
        name for _, name, _, _ in Formatter().parse(options.id) if name and name not in ("place", "stem")
    ]
    if missing := [name for name in [*needed, *options.where] if name not in known]:
        raise MissingColumnError(
            f"{path} has no column {missing[0]!r}, which this benchmark needs; it has "
            f"{', '.join(sorted(known))}."
        )


def _item(
    row: Mapping[str, Any], place: int, options: TableConfig, folder: Path, where: str, before: Turn
) -> Item:
    def cell(name: str) -> Any:
        return row.get(options.columns.get(name, name))

    def stored(value: Any, name: str) -> StoredPicture | None:
        held = value.get("bytes") or value.get("path") if isinstance(value, Mapping) else value
        if held is None or held == "":
            return None
        # A Hugging Face cell without bytes has a path of its own.
        return StoredPicture(value=value, folder=folder, what=f"{name} of {where}")

    texts = {name: _text(cell(name), name, where) for name in TEXTS}
    if not texts["instruction"].strip():
        raise EmptyFieldError(f"The {where} has no instruction.")
    sources = cell("source") if isinstance(cell("source"), list | tuple) else [cell("source")]
    pictures = [stored(value, "source") for value in sources]
    source = pictures[0] if pictures else None
    turn = turns.read_turn(cell("turn"), texts["session"], before, where)
    if source is None and turn == 1 and options.needs_source:
        raise EmptyFieldError(f"The {where} has no source picture.")
    more = cell("references") or []
    references = [
        *pictures[1:],
        *(stored(v, "reference") for v in (more if isinstance(more, list) else [more])),
    ]
    names = {key: row[key] for key in row if isinstance(row[key], str | int | float | bool)}
    named_file = cell("answer") or sources[0]
    stem = Path(named_file).stem if isinstance(named_file, str) else f"{place:06d}"
    names |= {"place": place, "stem": stem}
    identity = _named(options.id, names, where)
    return Item(
        id=identity,
        instruction=texts["instruction"],
        source=source,
        answer=stored(cell("answer"), "answer"),
        mask=stored(cell("mask"), "mask"),
        mask_means=options.mask_means,
        references=tuple(each for each in references if each is not None),
        category=texts["category"],
        source_caption=texts["source_caption"],
        answer_caption=texts["answer_caption"],
        session=texts["session"],
        turn=turn,
        words=_words(cell("words"), where),
        published=inside(_named(options.result, {**names, "id": identity}, where), where),
        fields={name: _plain(row.get(name)) for name in options.fields},
    )


def inside(path: str, where: str) -> str:
    """A relative path that stays below its folder.

    Raises:
        EditkitError: where it leaves it.
    """
    if not path or Path(path).is_absolute() or ".." in Path(path).parts:
        raise EmptyFieldError(f"The {where} names its result {path!r}, which is no path below a folder.")
    return path


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, list | tuple) and value:
        value = value[0]  # of several wordings
    if value is None:
        return ""
    if isinstance(value, bytes):  # a member of a shard, such as a class in digits
        value = value.decode("utf-8-sig").strip()
    if not isinstance(value, str | int | float):
        raise EmptyFieldError(f"The {name} of {where} is no text.")
    text = str(value)
    if text != text.encode(errors="ignore").decode():
        raise EditkitError(f"The {name} of {where} is no Unicode text; correct it or leave the row out.")
    return text


def _words(value: Any, where: str) -> tuple[str, ...]:
    """The texts that must be readable: one, or a list of them."""
    several = value if isinstance(value, list | tuple) else [value]
    texts = [_text(each, "words", where) for each in several if not isinstance(each, list | tuple)]
    if len(texts) < len(several):
        raise EmptyFieldError(f"The words of {where} are no list of texts.")
    return tuple(text for text in texts if text)


def _named(pattern: str, names: Mapping[str, Any], where: str) -> str:
    try:
        return pattern.format_map(names)
    except (KeyError, ValueError, IndexError) as error:
        raise EmptyFieldError(f"The {where} has no value for {pattern!r} ({error}).") from error


def _plain(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return str(value)
