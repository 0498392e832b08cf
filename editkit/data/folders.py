"""Find the training pairs in folders: answers and captions in one, sources and masks in others.

Files of one pair have the same stem, as for ai-toolkit and musubi. A file without its partners becomes a row
that says so.
"""

import re
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from editkit import notes
from editkit.data.records import DataConfig
from editkit.errors import EditkitError, unknown

FIELDS = ("answer", "source", "mask", "instruction")
CAPTION = ".txt"

Files = dict[str, list[Path]]
"""Files by the stem of their answer."""


class BadRow(Mapping[str, Any]):
    """A row that cannot be a record; reading it raises an error that says why."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __getitem__(self, column: str) -> Any:
        raise EditkitError(self.problem)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def rows(path: Path, config: DataConfig) -> Sequence[Mapping[str, Any]]:
    """Make a row for each answer, and one for each file that belongs to no answer.

    Raises:
        EditkitError: if a folder is missing that the config names, or the config names an unknown field.
    """
    if unknown_fields := [field for field in config.folders if field not in FIELDS]:
        raise EditkitError(unknown("field of folders called", unknown_fields[0], FIELDS))
    folders = {field: path / config.folders.get(field, field) for field in FIELDS}
    if "instruction" not in config.folders:
        folders["instruction"] = folders["answer"]
    for field, folder in folders.items():
        if (field == "answer" or field in config.folders) and not folder.is_dir():
            raise EditkitError(
                f"The folder {folder} of {field}s is missing; name it in data.folders.{field}."
            )
    for below in sorted({below for folder in folders.values() for below in _below(folder)}):
        if below not in folders.values():
            notes.tell(
                f"The pictures in {below} are not read; move them to {below.parent} or another data.path."
            )
    return list(_pair(path, folders, config.text_to_image))


def _pair(path: Path, folders: Mapping[str, Path], alone: bool) -> Iterator[Mapping[str, Any]]:
    captions = {file.stem: file for file in _list(folders["instruction"]) if file.suffix.lower() == CAPTION}
    known = {*captions, *(file.stem for file in _list(folders["source"]))}
    answers = _group(folders["answer"], known, numbered=False)
    sources = _group(folders["source"], answers, numbered=True)
    masks = _group(folders["mask"], answers, numbered=False)
    needed = not alone and not answers.keys().isdisjoint(sources)
    for stem, files in answers.items():
        pair = {"answer": files, "source": sources.get(stem, []), "mask": masks.get(stem, [])}
        if twice := next(filter(None, map(_same_stem, pair.values())), None):
            yield BadRow(f"{' and '.join(map(str, twice))} have the same name; keep one of them.")
        elif stem not in captions:
            yield BadRow(f"{files[0]} has no caption; write {folders['instruction'] / (stem + CAPTION)}.")
        elif needed and not pair["source"]:
            yield BadRow(f"{files[0]} has no source in {folders['source']}, where others have one; add it.")
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
        yield BadRow(f"{file} belongs to no answer in {folders['answer']}; rename or remove it.")


def _row(path: Path, parts: Files, caption: Path) -> Mapping[str, Any]:
    try:
        words = caption.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError):
        return BadRow(f"The caption {caption} cannot be read; give a file of UTF-8 text.")
    found = {name: [str(file.relative_to(path)) for file in files] for name, files in parts.items()}
    mask = next(iter(found["mask"]), None)
    return {"answer": found["answer"][0], "source": found["source"], "mask": mask, "instruction": words}


def _group(folder: Path, stems: Container[str], *, numbered: bool) -> Files:
    """Group a folder's pictures by the stem of their answer; a stem without a picture gets its other files.

    Several sources of one answer are numbered, name_0 and name_1 (musubi). Answers may end in numbers, too.
    """
    files = [file for file in _list(folder) if file.suffix.lower() != CAPTION]
    pictures = {file.stem for file in files if file.suffix.lower() in _picture_suffixes()}
    found: Files = defaultdict(list)
    for file in files:
        plain = file.stem in stems or not numbered
        stem = file.stem if plain else re.sub(r"_\d+$", "", file.stem)
        if file.suffix.lower() in _picture_suffixes() or (stem in stems and file.stem not in pictures):
            found[stem].append(file)
    return dict(found)


def _same_stem(files: Sequence[Path]) -> list[Path]:
    """Return the files that differ in their suffix only."""
    stems = [file.stem for file in files]
    return [file for file in files if stems.count(file.stem) > 1]


def _list(folder: Path) -> list[Path]:
    """List a folder's files in natural order, 2 before 10; none if there is no folder."""
    files = [file for file in folder.glob("*") if file.is_file() and not file.name.startswith(".")]
    return sorted(files, key=lambda file: (_natural(file.stem), file.suffix))


def _below(folder: Path) -> list[Path]:
    """List the folders in a folder that have pictures."""
    inside = [each for each in folder.glob("*") if each.is_dir() and not each.name.startswith(".")]
    return [each for each in inside if any(f.suffix.lower() in _picture_suffixes() for f in each.glob("*"))]


def _natural(stem: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", stem)]


@cache
def _picture_suffixes() -> frozenset[str]:
    """Return the suffixes of all formats that Pillow reads."""
    registered = Image.registered_extensions()
    return frozenset(suffix for suffix, form in registered.items() if form in Image.OPEN)
