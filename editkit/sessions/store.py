"""The session store: turns on disk, each a picture with its recipe and a picture of its change."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from editkit import atomic_files
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.inference import provenance
from editkit.sessions import lock
from editkit.types import Alignment

FILE, FORMAT = "session.json", 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One picture of a session.

    Attributes:
        number: place in the order in which turns were made; 0 is the original.
        parent: number of the turn that it started from; None for the original.
        instruction: the edit in words.
        method: name of the method; empty for the original and for an anchor.
        folder: folder of its files.
        recipe: how the picture was made; empty for the original.
        notes: warnings in plain words.
        alignment: shift and scale against the parent's picture; see `EditResult`.
        digests: SHA-256 of its files, by file name.
    """

    number: int
    parent: int | None
    instruction: str
    method: str
    folder: Path
    recipe: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    alignment: Alignment | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The picture's file."""
        return self.folder / picture_name(self.number)

    @property
    def image(self) -> Image.Image:
        """The picture, read from disk.

        Raises:
            EditkitError: where the file is missing or damaged.
        """
        return _opened(self.path)

    @property
    def change(self) -> Image.Image | None:
        """A gray picture, white where the turn was meant to change its parent's; None for no change.

        Raises:
            EditkitError: where the file is missing or damaged.
        """
        name = change_name(self.number)
        return _opened(self.folder / name) if name in self.digests else None

    def entry(self) -> dict[str, Any]:
        """Return what the pictures' files do not hold, in JSON's types."""
        return {
            "number": self.number,
            "parent": self.parent,
            "instruction": self.instruction,
            "method": self.method,
            "notes": list(self.notes),
            "alignment": None if self.alignment is None else asdict(self.alignment),
            "sha256": dict(self.digests),
        }


def picture_name(number: int) -> str:
    """Name the file of a turn's picture."""
    return f"turn-{number:03}.png"


def change_name(number: int) -> str:
    """Name the file of a turn's change."""
    return f"change-{number:03}.png"


def begin(folder: Path, original: Image.Image, notes: tuple[str, ...]) -> Turn:
    """Write a session of one turn into a free folder, and return the turn.

    Raises:
        EditkitError: where the folder holds something, or cannot be written to.
    """
    check_free(folder)  # before anything is written there
    with lock.alone(folder, new=True):
        check_free(folder)  # another may have begun meanwhile
        turn = write(folder, original, number=0, parent=None, instruction="original", method="", notes=notes)
        index(folder, (turn,), 0, ())
    return turn


def write(folder: Path, image: Image.Image, change: Image.Image | None = None, **values: Any) -> Turn:
    """Write a turn's files and return the turn; `values` are the other fields of a `Turn`.

    Raises:
        EditkitError: where they cannot be written.
    """
    number = values["number"]
    images.save(image, folder / picture_name(number), values.get("recipe"))
    names = [picture_name(number)]
    if change is not None:
        images.save(change, folder / change_name(number))
        names.append(change_name(number))
    digests = {name: _digest(folder / name) for name in names}
    return Turn(folder=folder, digests=digests, **values)


def copy(turns: Sequence[Turn], folder: Path) -> None:
    """Copy the files of turns into another folder."""
    for path in (turn.folder / name for turn in turns for name in turn.digests):
        shutil.copyfile(path, folder / path.name)


def index(folder: Path, turns: Sequence[Turn], current: int, ahead: Sequence[int]) -> None:
    """Write session.json: all turns, the current one, and those that `redo` goes to.

    Raises:
        EditkitError: where it cannot be written.
    """
    session = {"format": FORMAT, "versions": provenance.versions(), **_state(turns, current, ahead)}
    with atomic_files.whole(folder / FILE) as file:
        file.write(json.dumps(session, indent=1).encode())


def check_unchanged(folder: Path, turns: Sequence[Turn], current: int, ahead: Sequence[int]) -> None:
    """Check that session.json holds this state.

    Raises:
        EditkitError: where it holds another one, or is gone.
    """
    mine = _state(turns, current, ahead)
    try:
        found = json.loads((folder / FILE).read_bytes())
        same = json.dumps({key: found[key] for key in mine}) == json.dumps(mine)
    except OSError as error:
        raise EditkitError(
            f"The session {folder} is gone ({error.strerror}); start or load another one."
        ) from error
    except (ValueError, TypeError, LookupError, RecursionError):
        same = False
    if not same:
        raise EditkitError(f"The session {folder} was changed elsewhere; load it again to go on from there.")


def read_turns(folder: Path) -> tuple[tuple[Turn, ...], int, tuple[int, ...]]:
    """Read the turns of a folder, the number of the current one, and the turns that `redo` goes to.

    Raises:
        EditkitError: where a file is missing, damaged, or other than `write` and `index` wrote it.
    """
    path = folder / FILE
    try:
        session = json.loads(path.read_bytes())
        if session["format"] != FORMAT:
            raise EditkitError(
                f"The session {folder} has the format {session['format']}; use a newer editkit."
            )
        turns = tuple(_turn(folder, place, entry) for place, entry in enumerate(session["turns"]))
        current, ahead = (
            turns[session["current"]].number,
            tuple(turns[number].number for number in session["ahead"]),
        )
        return turns, current, ahead
    except OSError as error:
        raise EditkitError(
            f"The session {path} cannot be read ({error.strerror}); check the path."
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise EditkitError(f"The session {path} is damaged; take another copy of the folder.") from error


def check_free(folder: Path, *, replace: bool = False) -> None:
    """Check that a folder is empty or, with `replace`, holds a session.

    Raises:
        EditkitError: where it holds other files.
    """
    filled = os.path.exists(folder) and any(each.name != lock.FILE for each in folder.iterdir())
    session = os.path.exists(folder / FILE)
    if filled and session and not replace:
        raise EditkitError(
            f"The folder {folder} holds a session; load it by editkit.load_session, or give another folder."
        )
    if filled and not session:
        raise EditkitError(f"The folder {folder} is not empty and holds no session; give another folder.")


def _state(turns: Sequence[Turn], current: int, ahead: Sequence[int]) -> dict[str, Any]:
    """Return what session.json holds of a session, in JSON's types."""
    return {"current": current, "ahead": list(ahead), "turns": [turn.entry() for turn in turns]}


def _turn(folder: Path, place: int, entry: Mapping[str, Any]) -> Turn:
    number, parent, digests = entry["number"], entry["parent"], dict(entry["sha256"])
    known = {picture_name(place), change_name(place)}
    first = parent is None if place == 0 else isinstance(parent, int) and 0 <= parent < place
    if number != place or not first or not {picture_name(place)} <= set(digests) <= known:
        raise ValueError(f"turn {place} does not fit")
    for name, digest in digests.items():
        if _digest(folder / name) != digest:
            raise EditkitError(
                f"The session's file {folder / name} is damaged or was changed; take another copy."
            )
    alignment = entry["alignment"]
    return Turn(
        number=number,
        parent=parent,
        instruction=str(entry["instruction"]),
        method=str(entry["method"]),
        folder=folder,
        recipe=provenance.read_recipe(folder / picture_name(place)) if place else {},
        notes=tuple(map(str, entry["notes"])),
        alignment=None if alignment is None else Alignment(**alignment),
        digests=digests,
    )


def _opened(path: Path) -> Image.Image:
    with images.opened(path) as file:
        return file.copy()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        problem = f"The session's file {path} cannot be read ({error.strerror}); take another copy."
        raise EditkitError(problem) from error
