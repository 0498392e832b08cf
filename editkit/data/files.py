"""Training pairs in files: JSON lines, and the CSV that ACE++ was released with."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editkit import images
from editkit.data.records import DataConfig, Record
from editkit.errors import EditkitError

SEPARATOR = "#;#"
CSV_NAMES = {
    "edit_image": "source",
    "edit_mask": "mask",
    "ref_image": "references",
    "target_image": "answer",
    "prompt": "instruction",
    "data_type": "kind",
}
PICTURES = ("answer", "source", "mask")
KEYS = ("answer", "instruction", "source", "mask", "references", "kind", "task")


class Files:
    """Records whose pictures are read when they are asked for; paths are relative to the file."""

    def __init__(self, config: DataConfig) -> None:
        if config.path is None:
            raise EditkitError(f"data.name={config.name} needs data.path, the file with the records.")
        self.path = Path(config.path)
        read = _csv if config.name == "csv" else _json_lines
        self.rows = [row for row in read(self.path, config) if _wanted(row, config.types)]
        self.tasks = config.tasks
        if not self.rows:
            raise EditkitError(f"The file {self.path} holds no records of the types asked for.")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Record:
        row = self.rows[index]
        answer, source = self._rgb(row["answer"]), row.get("source")
        before = self._rgb(source) if source else None
        mask = None
        if row.get("mask"):
            size = answer.shape[1::-1] if before is None else before.shape[1::-1]
            with images.opened(self.path.parent / row["mask"], "mask") as opened:
                # Where it was drawn at another size, as released data are.
                scaled = opened.convert("L").resize(size, Image.Resampling.NEAREST)
                mask = np.asarray(scaled).copy()
        kind = str(row.get("kind") or "")
        return Record(
            answer=answer,
            instruction=str(row["instruction"]),
            source=before,
            mask=mask,
            references=tuple(self._rgb(path) for path in row.get("references") or ()),
            kind=kind,
            task=row.get("task") or self.tasks.get(kind),
        )

    def _rgb(self, path: str) -> NDArray[np.uint8]:
        return images.load(self.path.parent / path).rgb


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EditkitError(f"The records in {path} cannot be read; give a file of UTF-8 text.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line


def _json_lines(path: Path, _: DataConfig) -> Iterator[Mapping[str, Any]]:
    """One object a line: answer and instruction, and any of source, mask, references, kind and task."""
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise EditkitError(f"Line {number} of {path} is no JSON; give one object a line.") from error
        if not isinstance(row, dict) or (strange := sorted(set(row) - set(KEYS))):
            problem = f"the key {strange[0]!r}" if isinstance(row, dict) else "no object"
            raise EditkitError(f"Line {number} of {path} has {problem}; keys are {', '.join(KEYS)}.")
        yield _checked(row, number, path)


def _csv(path: Path, config: DataConfig) -> Iterator[Mapping[str, Any]]:
    """ACE++'s: fields between `#;#` in the order of `data.fields`; an empty one is absent."""
    if strange := [name for name in config.fields if name not in CSV_NAMES]:
        raise EditkitError(f"data.fields has {strange[0]!r}; names are {', '.join(CSV_NAMES)}.")
    for number, line in _lines(path):
        cells = line.split(SEPARATOR)
        if len(cells) != len(config.fields):
            raise EditkitError(
                f"Line {number} of {path} has {len(cells)} fields between {SEPARATOR}; data.fields names "
                f"{len(config.fields)}."
            )
        row: dict[str, Any] = {
            CSV_NAMES[name]: cell.strip() for name, cell in zip(config.fields, cells, strict=True)
        }
        reference = row.pop("references", "")
        yield _checked(row | {"references": [reference] if reference else []}, number, path)


def _checked(row: dict[str, Any], number: int, path: Path) -> dict[str, Any]:
    """A row whose paths are text, and which has what every record needs."""
    for name in ("answer", "instruction"):
        if not isinstance(row.get(name), str) or (name == "answer" and not row[name]):
            raise EditkitError(f"Line {number} of {path} has no {name}; every record needs one.")
    references = row.get("references") or []
    named = [row.get(name) or "" for name in PICTURES]
    if not isinstance(references, list) or not all(isinstance(each, str) for each in (*named, *references)):
        raise EditkitError(f"Line {number} of {path} has a picture that is no path; give text.")
    return row


def _wanted(row: Mapping[str, Any], types: tuple[str, ...]) -> bool:
    return not types or any(re.search(pattern, str(row.get("kind") or "")) for pattern in types)
