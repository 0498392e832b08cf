"""Pairs in folders: answers with captions of the same stem in one, their sources and masks in others.

The layout is that of ai-toolkit and musubi. Files that belong to no whole pair become rows that say so.
"""

import re
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from editkit.data.records import DataConfig
from editkit.errors import EditkitError, unknown

FIELDS = ("answer", "source", "mask", "instruction")
CAPTION = ".txt"

Files = dict[str, list[Path]]
"""By the stem of the answer that they belong to."""


class Fault(Mapping[str, Any]):
    """A row that cannot be a record, and says why where it is read."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __getitem__(self, column: str) -> Any:
        raise EditkitError(self.problem)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def rows(path: Path, config: DataConfig) -> Sequence[Mapping[str, Any]]:
    """A row for each answer, and one for each file that belongs to none.

    Raises:
        EditkitError: where a folder is missing that must be there, or one is named for no such field.
    """
    if strange := [field for field in config.folders if field not in FIELDS]:
        raise EditkitError(unknown("field of folders called", strange[0], FIELDS))
    folders = {field: path / config.folders.get(field, field) for field in FIELDS}
    if "instruction" not in config.folders:
        folders["instruction"] = folders["answer"]
    for field, folder in folders.items():
        if (field == "answer" or field in config.folders) and not folder.is_dir():
            raise EditkitError(
                f"The folder {folder} of {field}s is missing; name it in data.folders.{field}."
            )
    return list(_paired(path, folders))


def _paired(path: Path, folders: Mapping[str, Path]) -> Iterator[Mapping[str, Any]]:
    captions = {file.stem: file for file in _listed(folders["instruction"]) if file.suffix.lower() == CAPTION}
    known = {*captions, *(file.stem for file in _listed(folders["source"]))}
    answers = _grouped(folders["answer"], known, numbered=False)
    sources = _grouped(folders["source"], answers, numbered=True)
    masks = _grouped(folders["mask"], answers, numbered=False)
    needed = not answers.keys().isdisjoint(sources)
    for stem, files in answers.items():
        pair = {"answer": files, "source": sources.get(stem, []), "mask": masks.get(stem, [])}
        if twice := next(filter(None, map(_twice, pair.values())), None):
            yield Fault(f"{' and '.join(map(str, twice))} have one name; keep one of them.")
        elif stem not in captions:
            yield Fault(f"{files[0]} has no caption; write {folders['instruction'] / (stem + CAPTION)}.")
        elif needed and not pair["source"]:
            yield Fault(f"{files[0]} has no source in {folders['source']}, where others have one; add it.")
        else:
            yield _row(path, pair, captions[stem])
    left = [
        file
        for each in (sources, masks)
        for stem, files in each.items()
        for file in files
        if stem not in answers
    ]
    for file in (*left, *(file for stem, file in captions.items() if stem not in answers)):
        yield Fault(f"{file} belongs to no answer in {folders['answer']}; rename or remove it.")


def _row(path: Path, parts: Files, caption: Path) -> Mapping[str, Any]:
    try:
        words = caption.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError):
        return Fault(f"The caption {caption} cannot be read; give a file of UTF-8 text.")
    found = {name: [str(file.relative_to(path)) for file in files] for name, files in parts.items()}
    mask = next(iter(found["mask"]), None)
    return {"answer": found["answer"][0], "source": found["source"], "mask": mask, "instruction": words}


def _grouped(folder: Path, stems: Container[str], *, numbered: bool) -> Files:
    """A folder's pictures by the stem of their answer, and other files of the stems that have no picture.

    Several sources of one answer are numbered, name_0 and name_1 (musubi); answers may end in numbers too.
    """
    files = [file for file in _listed(folder) if file.suffix.lower() != CAPTION]
    pictures = {file.stem for file in files if file.suffix.lower() in _suffixes()}
    found: Files = defaultdict(list)
    for file in files:
        plain = file.stem in stems or not numbered
        stem = file.stem if plain else re.sub(r"_\d+$", "", file.stem)
        if file.suffix.lower() in _suffixes() or (stem in stems and file.stem not in pictures):
            found[stem].append(file)
    return dict(found)


def _twice(files: Sequence[Path]) -> list[Path]:
    """Files that differ in nothing but their suffix."""
    stems = [file.stem for file in files]
    return [file for file in files if stems.count(file.stem) > 1]


def _listed(folder: Path) -> list[Path]:
    """A folder's files, numbers in their names in the order of numbers; none where there is no folder."""
    files = [file for file in folder.glob("*") if file.is_file() and not file.name.startswith(".")]
    return sorted(files, key=lambda file: (_natural(file.stem), file.suffix))


def _natural(stem: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", stem)]


@cache
def _suffixes() -> frozenset[str]:
    """Of all formats that pictures are read from."""
    registered = Image.registered_extensions()
    return frozenset(suffix for suffix, form in registered.items() if form in Image.OPEN)
