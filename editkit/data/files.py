"""Training pairs in files and folders: how each layout names its columns, and where its rows come from."""

import csv
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from editkit import images
from editkit.data.records import DataConfig, Record
from editkit.errors import EditkitError, first_sentence
from editkit.registry import unknown

SEPARATOR = "#;#"
FIELDS = ("answer", "instruction", "source", "mask", "references", "kind", "task")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
COLUMNS: dict[str, dict[str, str]] = {
    "editkit": {name: name for name in FIELDS},
    "csv": {
        "source": "edit_image",
        "mask": "edit_mask",
        "references": "ref_image",
        "answer": "target_image",
        "instruction": "prompt",
        "kind": "data_type",
    },
    "magicbrush": {
        "source": "source_img",
        "mask": "mask_img",
        "answer": "target_img",
        "instruction": "instruction",
    },
    "omniedit": {
        "source": "src_img",
        "answer": "edited_img",
        "instruction": "edited_prompt_list",
        "kind": "task",
    },
    "instructpix2pix": {
        "source": "original_image",
        "answer": "edited_image",
        "instruction": "edit_prompt",
    },
    "relighting": {"source": "file_name", "answer": "output", "instruction": "instruction"},
    "diffsynth": {"source": "kontext_images", "answer": "image", "instruction": "prompt"},
}
"""Columns of known datasets, by the record's fields; relighting is the kontext-community's on the Hub."""

Rows = Sequence[Mapping[str, Any]]


class Files:
    """Records whose pictures are read when they are asked for."""

    def __init__(self, config: DataConfig) -> None:
        if config.path is None:
            raise EditkitError(f"data.name={config.name} needs data.path, where the records are.")
        self.path, self.tasks = Path(config.path), config.tasks
        self.columns = _columns(config)
        self.rows = LAYOUTS[config.name](self.path, config)
        if config.types:
            wanted = [place for place, row in enumerate(self.rows) if self._wanted(row, config.types)]
            self.rows = [self.rows[place] for place in wanted]
        if not len(self.rows):
            raise EditkitError(f"There are no records of the kinds asked for in {self.path}.")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Record:
        where = f"record {index} of {self.path}"
        try:
            return self._record(self.rows[index], where)
        except (OSError, ValueError, UnidentifiedImageError) as error:  # UnicodeDecodeError is a ValueError
            raise EditkitError(f"The {where} cannot be read ({first_sentence(error)}).") from error

    def _record(self, row: Mapping[str, Any], where: str) -> Record:
        found = {field: row.get(column) for field, column in self.columns.items()}
        words = found.get("instruction")
        if isinstance(words, list | tuple) and words:
            words = words[0]  # of several wordings
        if not isinstance(words, str):
            raise EditkitError(f"The {where} has no instruction under {self.columns['instruction']!r}.")
        answer = self._picture(found.get("answer"), f"answer of {where}")
        if answer is None:
            raise EditkitError(f"The {where} has no answer under {self.columns['answer']!r}.")
        sources = self._pictures(found.get("source"), f"source of {where}")
        source = sources[0] if sources else None
        references = (*sources[1:], *self._pictures(found.get("references"), f"reference of {where}"))
        height, width = (answer if source is None else source).shape[:2]
        mask = self._loaded(found.get("mask"), f"mask of {where}")
        kind, task = str(found.get("kind") or ""), found.get("task")
        if task is not None and not isinstance(task, str):
            raise EditkitError(f"The {where} has a task that is no text.")
        return Record(
            answer=answer,
            instruction=words,
            source=source,
            mask=None if mask is None else _mask(mask, (width, height)),
            references=references,
            kind=kind,
            task=task or self.tasks.get(kind),
        )

    def digest(self) -> str:
        """Of all that records are made from: their rows, and the size and time of each file."""
        known = getattr(self.rows, "_fingerprint", None)  # Hugging Face keeps one of its own
        made = hashlib.blake2b(str(known).encode(), digest_size=16)
        for row in () if known else self.rows:
            made.update(json.dumps(self._stamped(row), default=str).encode())
        return made.hexdigest()

    def _stamped(self, row: Mapping[str, Any]) -> list[Any]:
        if isinstance(row, Member):
            return [(name, *_stamp(place[0]), *place[1:]) for name, place in row.places.items()]
        folder = self.path if self.path.is_dir() else self.path.parent
        fields = ("answer", "source", "mask", "references")
        pictures = [row.get(self.columns[field]) for field in fields if field in self.columns]
        paths = [each for value in pictures for each in (value if isinstance(value, list) else [value])]
        files = [_stamp(folder / path) for path in paths if path and isinstance(path, str)]
        held = [hashlib.blake2b(data).hexdigest() for each in paths if (data := _held(each))]
        return [{name: value for name, value in row.items() if isinstance(value, str | list)}, files, held]

    def _wanted(self, row: Mapping[str, Any], types: Sequence[str]) -> bool:
        kind = str(row.get(self.columns.get("kind", "kind")) or "")
        return any(re.search(pattern, kind) for pattern in types)

    def _pictures(self, value: Any, what: str) -> list[NDArray[np.uint8]]:
        several = value if isinstance(value, list | tuple) else [value]
        return [picture for each in several if (picture := self._picture(each, what)) is not None]

    def _picture(self, value: Any, what: str) -> NDArray[np.uint8] | None:
        found = self._loaded(value, what)
        return None if found is None else found.rgb

    def _loaded(self, value: Any, what: str) -> images.Picture | None:
        """A picture from a path, bytes as Hugging Face keeps them, or one that is decoded already."""
        if isinstance(value, Mapping):  # an image column that was not decoded
            value = value.get("bytes") or value.get("path")
        if value is None or value == "":
            return None
        if isinstance(value, bytes):
            try:
                value = Image.open(io.BytesIO(value))
            except (UnidentifiedImageError, OSError) as error:
                raise EditkitError(f"The {what} is no picture; leave the record out.") from error
        if isinstance(value, str | Path):
            folder = self.path if self.path.is_dir() else self.path.parent
            value = folder / value
        return images.load(value, what)


def _held(value: Any) -> bytes:
    """A picture that a row holds in itself, as Hugging Face has them."""
    data = value.get("bytes") if isinstance(value, Mapping) else value
    return data if isinstance(data, bytes) else b""


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:  # absent, or no path at all
        return str(path), 0, 0
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _columns(config: DataConfig) -> dict[str, str]:
    preset = config.preset or ("csv" if config.name == "csv" else "editkit")
    if preset not in COLUMNS:
        raise EditkitError(unknown("preset of columns called", preset, COLUMNS))
    if strange := [field for field in config.columns if field not in FIELDS]:
        raise EditkitError(unknown("field of a record called", strange[0], FIELDS))
    return COLUMNS[preset] | config.columns


def _mask(picture: images.Picture, size: tuple[int, int]) -> NDArray[np.uint8]:
    """As masks of requests are read, at the picture's size: released data have masks of another."""
    gray = Image.fromarray(np.round(images.brightness(picture) * 255).astype(np.uint8))
    return np.array(gray if gray.size == size else gray.resize(size, Image.Resampling.NEAREST))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EditkitError(f"The records in {path} cannot be read; give a file of UTF-8 text.") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def _json_lines(path: Path, config: DataConfig) -> Rows:
    """One object a line."""
    rows, known = [], set(_columns(config).values())
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise EditkitError(f"Line {number} of {path} is no JSON; give one object a line.") from error
        if not isinstance(row, dict) or not known & set(row):
            keys = ", ".join(sorted(known))
            raise EditkitError(f"Line {number} of {path} is no object with any of the keys {keys}.")
        rows.append(row)
    return rows


def _separated(path: Path, config: DataConfig) -> Rows:
    """ACE++'s: fields between `#;#` in the order of `data.fields`; an empty one is absent."""
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
    reader = csv.DictReader(io.StringIO(_text(path)), delimiter="\t" if path.suffix == ".tsv" else ",")

    def cell(value: Any) -> Any:
        listed = isinstance(value, str) and value.startswith("[")
        try:
            return json.loads(value) if listed else value
        except ValueError:
            return value

    return [{name: cell(value) for name, value in row.items()} for row in reader]


def _folders(path: Path, config: DataConfig) -> Rows:
    """Answers with captions of the same stem in one folder, their sources in others (ai-toolkit, musubi)."""
    named: dict[str, dict[str, list[str]]] = {}
    for field in ("answer", "source", "mask"):
        folder = path / config.folders.get(field, field)
        if field == "answer" and not folder.is_dir():
            raise EditkitError(f"The folder {folder} of answers is missing; name it in data.folders.answer.")
        for picture in sorted(folder.glob("*")) if folder.is_dir() else ():
            # Several sources of one answer are numbered: name_0, name_1 (musubi).
            stem = re.sub(r"_\d+$", "", picture.stem) if field == "source" else picture.stem
            if picture.suffix.lower() in PICTURES:
                named.setdefault(stem, {}).setdefault(field, []).append(str(picture.relative_to(path)))
    captions = path / config.folders.get("instruction", config.folders.get("answer", "answer"))
    rows = []
    for stem, found in named.items():
        caption = captions / f"{stem}.txt"
        if "answer" in found:
            words = _text(caption).strip() if caption.is_file() else None
            row = {"answer": found["answer"][0], "instruction": words, "mask": found.get("mask", [None])[0]}
            rows.append(row | {"source": found.get("source", [])})
    return rows


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
    """A record in a shard, each part of which is read when it is looked up: text and JSON decoded."""

    def __init__(self, places: Mapping[str, tuple[Path, int, int]]) -> None:
        self.places = places

    def __getitem__(self, column: str) -> Any:
        shard, offset, size = self.places[column]
        with shard.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if column.endswith("json"):
            return json.loads(data)
        return data.decode() if column.endswith(("txt", "text", "caption")) else data

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


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
        rows: Rows = list(found.take(config.count)) if config.streaming else found
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise EditkitError(f"The dataset {where} cannot be read ({first_sentence(error)}).") from error
    return rows


BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}
LAYOUTS: dict[str, Callable[[Path, DataConfig], Rows]] = {
    "jsonl": _json_lines,
    "csv": _separated,
    "table": _table,
    "folders": _folders,
    "webdataset": _shards,
    "huggingface": _huggingface,
}
