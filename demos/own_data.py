"""Pairs of a visitor: read from an archive or a path, checked, and divided into trained and held-out ones."""

from __future__ import annotations

import json
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from editkit.data import layouts
from editkit.data.check import Check, check_dataset
from editkit.data.columns import columns
from editkit.data.datasets import dataset
from editkit.data.folders import BadRow
from editkit.data.records import DataConfig
from editkit.errors import EditkitError, first_sentence
from editkit.imaging import contact_sheet

BYTES = 2 << 30
"""Largest size of an archive's files together."""
SHOWN = 6
"""Number of pairs that are drawn where nothing is wrong."""
CHECKED = 500
"""Number of records that are checked."""
HELD_OUT, SHARE = 8, 10
"""Most pairs that are held out, and of how many pairs one is."""
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)
"""Errors of an archive that is damaged, encrypted or packed in a way that Python does not know."""
LINES, ANSWERS = ".jsonl", "answer"
PICTURES = ("answer", "source", "mask", "references")
WANTED = "a .jsonl file, or a folder with source/ and answer/ in it"


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """A visitor's pairs.

    Attributes:
        config: where they are.
    """

    config: DataConfig

    @property
    def path(self) -> Path:
        """Path of the list or folder."""
        assert self.config.path is not None
        return Path(self.config.path)

    @property
    def base(self) -> Path:
        """The folder that the pictures' paths start from."""
        return (self.path if self.path.is_dir() else self.path.parent).resolve()

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Read the rows of whole pairs.

        Raises:
            EditkitError: where they cannot be read at all.
        """
        known = layouts.LAYOUTS[self.config.name](self.path, self.config)
        return (row for row in known if not isinstance(row, BadRow))

    def check(self) -> Check:
        """Check the first records.

        Raises:
            EditkitError: where they cannot be read at all.
        """
        return check_dataset(dataset(self.config), CHECKED)

    def first(self) -> Image.Image | None:
        """Draw the first pairs: source, answer, and the instruction above."""
        records = dataset(self.config)
        shown = [records[place] for place in range(min(SHOWN, len(records)))]
        pictures = [
            [None if each is None else Image.fromarray(each) for each in (record.source, record.answer)]
            for record in shown
        ]
        titles = [record.instruction for record in shown]
        return contact_sheet.groups(list(zip(titles, pictures, strict=True)), ("source", "answer"))

    def divided(self, folder: Path) -> tuple[dict[str, Any], str]:
        """Write lists of trained and of held-out pairs; return settings of the run, and the counts in words.

        Args:
            folder: where the lists are written.

        Raises:
            EditkitError: where there are no whole pairs.
        """
        names, base = columns(self.config), self.base
        rows = [_absolute(row, base, names) for row in self.rows()]
        if not rows:
            raise EditkitError(f"There are no whole pairs in {self.path.name}; give {WANTED}.")
        held = rows[::SHARE][:HELD_OUT] if len(rows) >= SHARE else []
        trained = [row for row in rows if row not in held]
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "data.name": "jsonl",
            "data.path": _written(folder / "train.jsonl", trained),
        }
        settings |= {"data.count": "null"}
        words = f"{len(trained)} pairs train"
        if not held:
            return settings | {"fit.validate_every": 0}, f"{words}; of fewer than {SHARE} none is held out"
        path_of_held = _written(folder / "held-out.jsonl", held)
        settings |= {"validation.data.name": "jsonl", "validation.data.path": path_of_held}
        are = "is" if len(held) == 1 else "are"
        return settings, f"{words}, {len(held)} {are} held out and shown while it trains"


def at(path: str) -> OwnData:
    """Find pairs at a path of this machine.

    Raises:
        EditkitError: where there are none.
    """
    place = Path(path).expanduser()
    if not path.strip() or not place.exists():
        raise EditkitError(f"There is nothing at {path.strip() or 'an empty path'}; give {WANTED}.")
    if place.is_file() and place.suffix == LINES:
        return OwnData(config=DataConfig(name="jsonl", path=str(place.resolve())))
    if (place / ANSWERS).is_dir():
        return OwnData(config=DataConfig(name="folders", path=str(place.resolve())))
    lines = sorted(place.glob(f"*{LINES}")) if place.is_dir() else []
    if len(lines) == 1:
        return at(str(lines[0]))
    several = ", ".join(each.name for each in lines[:3])
    problem = f"holds several lists ({several})" if lines else "holds no pairs"
    raise EditkitError(f"{place.name} {problem}; give {WANTED}.")


def unpacked(archive: Path, name: str, folder: Path) -> OwnData:
    """Unpack an uploaded zip archive and find its pairs.

    Args:
        archive: the file.
        name: what the visitor calls it.
        folder: an empty folder, which is removed where there are no pairs.

    Raises:
        EditkitError: where it is no archive, is too large, holds no pairs, or names files outside its folder.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [each for each in opened.infolist() if not each.is_dir()]
            if sum(each.file_size for each in members) > BYTES:
                raise EditkitError(f"{name} is larger than {BYTES >> 30} GB unpacked; give less, or a path.")
            for member in members:
                parts = PurePosixPath(member.filename).parts
                if ".." in parts or PurePosixPath(member.filename).is_absolute():
                    raise EditkitError(f"{name} names a file outside its folder; pack it again.")
            opened.extractall(folder)
        places = [folder, *(each for each in sorted(folder.iterdir()) if each.is_dir())]
        inner = next((each for each in places if _holds_pairs(each)), None)
        if inner is None:
            raise EditkitError(f"{name} holds no pairs; pack {WANTED}.")
        own = at(str(inner))
        _check_inside(own, folder, name)
        return own
    except (*DAMAGED, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise EditkitError(f"{name} is no zip archive that can be read ({first_sentence(error)}).") from error
    except EditkitError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _holds_pairs(folder: Path) -> bool:
    return (folder / ANSWERS).is_dir() or any(folder.glob(f"*{LINES}"))


def _check_inside(own: OwnData, folder: Path, name: str) -> None:
    """Refuse pictures outside the folder: whoever brings an archive may not see this machine's files."""
    names, base, folder = columns(own.config), own.base, folder.resolve()
    for row in own.rows():
        for field in PICTURES:
            if not _inside(row.get(names[field]), base, folder):
                raise EditkitError(f"A pair of {name} names a picture outside its folder; pack it again.")


def _inside(value: Any, base: Path, folder: Path) -> bool:
    """Whether all paths of a row's value lead to places in the folder."""
    if isinstance(value, Mapping):  # such as {"path": ...}
        value = list(value.values())
    if isinstance(value, list):
        return all(_inside(each, base, folder) for each in value)
    try:
        return not isinstance(value, str) or (base / value).resolve().is_relative_to(folder)
    except ValueError:  # no path at all
        return False


def _absolute(row: Mapping[str, Any], base: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """A row whose pictures' paths hold wherever the list is."""
    fields = {field: row.get(column) for field, column in names.items()}
    return {
        field: _placed(value, base) if field in PICTURES else value
        for field, value in fields.items()
        if value not in (None, "", [])
    }


def _placed(value: Any, base: Path) -> Any:
    return [_placed(each, base) for each in value] if isinstance(value, list) else str(base / str(value))


def _written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)
