"""Where a dataset's rows come from: one function for each layout of files and folders."""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from editkit.data import folders
from editkit.data.columns import columns
from editkit.data.json_text import parsed
from editkit.data.records import DRAWN, DataConfig
from editkit.errors import EditkitError, first_sentence

SEPARATOR = "#;#"

Rows = Sequence[Mapping[str, Any]]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise EditkitError(
            f"There are no records at {path}; give data.path of a file that exists."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise EditkitError(f"The records in {path} cannot be read; give a file of UTF-8 text.") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def _json_lines(path: Path, config: DataConfig) -> Rows:
    """One object a line."""
    rows, known = [], set(columns(config).values())
    for number, line in _lines(path):
        row = parsed(line, f"Line {number} of {path}")
        if not isinstance(row, dict) or not known & set(row):
            keys = ", ".join(sorted(known))
            raise EditkitError(f"Line {number} of {path} is no object with any of the keys {keys}.")
        rows.append(row)
    return rows


def sound_json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """One object a line, of any keys; a line that is none is a row that says so where it is read.

    Raises:
        EditkitError: where the file cannot be read at all.
    """
    for number, line in _lines(path):
        yield _sound(line, f"Line {number} of {path}")


def _sound(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = parsed(line, where)
    except EditkitError as error:
        return folders.Fault(str(error))
    return row if isinstance(row, dict) else folders.Fault(f"{where} is no JSON object; give one a line.")


def _separated(path: Path, config: DataConfig) -> Rows:
    """Fields between `#;#` in the order of `data.fields`; an empty one is absent."""
    rows = []
    for number, line in _lines(path):
        cells = [cell.strip() for cell in line.split(SEPARATOR)]
        if len(cells) != len(config.fields):
            raise EditkitError(
                f"Line {number} of {path} has {len(cells)} fields between {SEPARATOR}; data.fields names "
                f"{len(config.fields)}."
            )
        rows.append(dict(zip(config.fields, cells, strict=True)))
    return rows


def _table(path: Path, _: DataConfig) -> Rows:
    """Comma- or tab-separated values under a row of names, as DiffSynth has it; a cell may be a JSON list."""
    delimiter = "\t" if path.suffix == ".tsv" else ","
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    rows, start = [], 1
    try:
        for cells in reader:
            if not names:
                names = cells
                if twice := [name for name in names if names.count(name) > 1]:
                    raise EditkitError(f"The table {path} has a column {twice[0]!r} twice; rename one.")
            elif cells and len(cells) != len(names):
                raise EditkitError(
                    f"Line {start} of {path} has {len(cells)} cells, where its first row has {len(names)}."
                )
            elif cells:
                rows.append({name: _cell(value) for name, value in zip(names, cells, strict=True)})
            start = reader.line_num + 1
    except csv.Error as error:
        problem = first_sentence(error)
        raise EditkitError(f"Line {start} of {path} is no row ({problem}); check its quotes.") from error
    return rows


def _cell(value: str) -> Any:
    try:
        return json.loads(value) if value.startswith("[") else value
    except ValueError:
        return value


def _shards(path: Path, _: DataConfig) -> Rows:
    """webdataset: members of tar files, a record's under one stem; columns are what follows its first dot."""
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    return [row for shard in shards for row in _members(shard)]


def _members(shard: Path) -> Iterable[Mapping[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(shard) as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                stem, _, column = name.partition(".")
                if member.isfile() and column:
                    place = (shard, member.offset_data, member.size)
                    rows.setdefault(f"{folder}/{stem}", {})[column] = place
    except (OSError, tarfile.TarError) as error:
        raise EditkitError(f"The shard {shard} cannot be read; give tar files of webdataset.") from error
    return [Member(row) for row in rows.values()]


class Member(Mapping[str, Any]):
    """A record in a shard, each part of which is read when it is looked up: text and JSON decoded.

    The keys of a part `json` are columns too, where no part is called so.
    """

    def __init__(self, places: Mapping[str, tuple[Path, int, int]]) -> None:
        self.places = places

    def __getitem__(self, column: str) -> Any:
        if column not in self.places:
            return self._told()[column]
        shard, offset, size = self.places[column]
        with shard.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if column.endswith("json"):
            return json.loads(data)
        return data.decode() if column.endswith(("txt", "text", "caption")) else data

    def __iter__(self) -> Iterator[str]:
        return iter(self._told() | dict(self.places))

    def __len__(self) -> int:
        return len(self._told() | dict(self.places))

    def _told(self) -> dict[str, Any]:
        told = self["json"] if "json" in self.places else None
        return told if isinstance(told, dict) else {}


def _huggingface(path: Path, config: DataConfig) -> Rows:
    """A folder or file of parquet, arrow or pictures, or a Hub id; with `data.streaming` the first ones."""
    try:
        import datasets
    except ImportError as error:
        raise EditkitError("data.name=huggingface needs a package: pip install 'editkit[train]'.") from error
    where = str(path)
    try:
        if path.suffix in BUILDERS:
            found = datasets.load_dataset(
                BUILDERS[path.suffix], data_files=where, split="train", streaming=config.streaming
            )
        elif (path / "dataset_info.json").is_file() and (path / "state.json").is_file():
            found = datasets.load_from_disk(where)
        else:
            found = datasets.load_dataset(where, split=config.split, streaming=config.streaming)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        problem = first_sentence(error)
        raise EditkitError(f"The dataset {where} cannot be loaded ({problem}); check the path.") from error
    for name, feature in (found.features or {}).items():
        if isinstance(feature, datasets.Image):
            found = found.cast_column(
                name, datasets.Image(decode=False)
            )  # a picture is read when it is shown
    try:
        rows: Rows = list(found.take(config.count or DRAWN)) if config.streaming else found
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise EditkitError(f"The dataset {where} cannot be read ({first_sentence(error)}).") from error
    labels = {
        name: feature
        for name, feature in (found.features or {}).items()
        if isinstance(feature, datasets.ClassLabel)
    }
    return Labelled(rows, labels) if labels else rows


class Labelled(Sequence[Mapping[str, Any]]):
    """Rows of Hugging Face whose class labels, kept as numbers, are their names."""

    def __init__(self, rows: Rows, labels: Mapping[str, Any]) -> None:
        self.rows, self.labels = rows, labels
        self._fingerprint = getattr(rows, "_fingerprint", None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        row = dict(self.rows[place])
        for name, feature in self.labels.items():
            # A label that is absent is None, or -1 as in test sets.
            row[name] = feature.int2str(row[name]) if (row[name] or 0) >= 0 and row[name] is not None else ""
        return row


def names(rows: Rows) -> set[str] | None:
    """Columns that any row has; None where that is not told without reading records."""
    if (held := getattr(getattr(rows, "rows", rows), "column_names", None)) is not None:
        return set(held)
    if any(isinstance(row, Member) for row in rows):
        return None
    return {name for row in rows for name in row}


BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}
LAYOUTS: dict[str, Callable[[Path, DataConfig], Rows]] = {
    "jsonl": _json_lines,
    "csv": _separated,
    "table": _table,
    "folders": folders.rows,
    "webdataset": _shards,
    "huggingface": _huggingface,
}
