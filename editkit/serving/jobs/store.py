"""The folder of a job: its pictures, its append-only logs, its lock, and the table at its end."""

from __future__ import annotations

import copy
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from editkit import atomic_files
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.inference import provenance
from editkit.serving.jobs.manifest import Item
from editkit.types import EditResult

SETTINGS, LOGS, LOCK, TABLE = "job.json", "log", ".lock", "recipes.parquet"
KEY = "job"
"""Key under which a picture's recipe names its item."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A line of a log: an item that is done.

    Attributes:
        name: of the item.
        digest: of what it was made from.
        recipe: of its picture; empty where it failed.
        notes: of its edit.
        error: why it failed; None where it did not.
        seconds: duration; 0 where the picture was found after a kill.
    """

    name: str
    digest: str
    recipe: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0


class Store:
    """A job's folder. Several processes may write to one; each has a log of its own.

    Args:
        folder: made where it is missing.
        settings: that decide what the pictures look like; a folder keeps those of its first item.

    Raises:
        EditkitError: where it cannot be made, holds something else, or was begun with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        if find_spec("pyarrow") is None:  # of which the table at the end is made
            raise EditkitError("editkit batch needs pyarrow; run: pip install 'editkit[serve]'")
        self.folder = images.check_folder(folder)
        told = json.loads(json.dumps(settings))
        kept = self.folder / SETTINGS
        if not kept.is_file():
            # Another process of the same run may be writing the settings just now.
            names = {each.name for each in self.folder.glob("[!.]*")} - {SETTINGS}
            if names:
                raise EditkitError(f"--out {folder} is not empty and holds no job; give another folder.")
            self._begin(told)
        elif _settings(kept) != told and self._idle():
            self._begin(told)
        self._check(_settings(kept), told)
        self._log: Any = None

    def detached(self) -> Store:
        """Return the same store for another process, which writes a log of its own."""
        other = copy.copy(self)
        other._log = None
        return other

    def picture(self, item: Item) -> Path:
        """Return the path of an item's picture."""
        return self.folder / f"{item.name}.png"

    def done(self) -> dict[str, Made]:
        """Read the logs; a line that a kill cut off is left out, and so is an item whose picture is gone.

        Raises:
            EditkitError: where another line is damaged.
        """
        found: dict[str, Made] = {}
        pictures = {each.name for each in self.folder.glob("*.png")}
        for log in sorted((self.folder / LOGS).glob("*.jsonl")):
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
            for number, line in enumerate(lines, 1):
                made = _made(line, f"Line {number} of {log}")
                if made.error is None and f"{made.name}.png" not in pictures:
                    found.pop(made.name, None)
                elif made.error is None or made.name not in found or found[made.name].error is not None:
                    found[made.name] = made  # a picture counts, whatever failed after it
        return found

    def found(self, item: Item) -> Made | None:
        """Return an item whose picture was written before a kill but not logged, and log it."""
        path = self.picture(item)
        if not path.is_file():
            return None
        try:
            recipe = provenance.read_recipe(path)
        except EditkitError:
            return None
        told = recipe.get(KEY, {})
        if told.get("digest") != item.digest():
            return None
        made = Made(
            name=item.name, digest=told["digest"], recipe=recipe, notes=tuple(told["notes"]), seconds=0.0
        )
        self._append(made)
        return made

    def keep(self, item: Item, result: EditResult, notes: Sequence[str]) -> Made:
        """Write an item's picture, whole or not at all, and then its line."""
        digest = item.digest()
        if result.image is None:
            made = Made(name=item.name, digest=digest, recipe={}, notes=tuple(notes), error=result.error)
        else:
            recipe = {**result.recipe, KEY: {"item": item.name, "digest": digest, "notes": list(notes)}}
            images.save(result.image, self.picture(item), recipe)
            seconds = round(sum(result.timings.values()), 3)
            made = Made(name=item.name, digest=digest, recipe=recipe, notes=tuple(notes), seconds=seconds)
        self._append(made)
        return made

    def write_table(self, items: Sequence[Item], done: Mapping[str, Made]) -> Path:
        """Write the table of all items, in the manifest's order."""
        import pyarrow
        from pyarrow import parquet

        made = [done[item.name] for item in items]
        columns = {
            "id": [each.name for each in made],
            "picture": [None if each.error else f"{each.name}.png" for each in made],
            "error": [each.error for each in made],
            "seed": [each.recipe.get("seed") for each in made],
            "notes": [list(each.notes) for each in made],
            "recipe": [json.dumps(each.recipe) if each.recipe else None for each in made],
        }
        text = pyarrow.string()
        kinds = [text, text, text, pyarrow.int64(), pyarrow.list_(text), text]
        schema = pyarrow.schema(list(zip(columns, kinds, strict=True)))
        with atomic_files.whole(self.folder / TABLE) as file:
            parquet.write_table(pyarrow.table(columns, schema=schema), file)
        return self.folder / TABLE

    @contextmanager
    def locked(self, first: int, last: int) -> Iterator[None]:
        """Keep other runs from the batches from `first` up to, not including, `last`.

        The operating system frees them when the process ends, however it does.

        Raises:
            EditkitError: where another run has some of them.
        """
        try:
            import fcntl
        except ImportError as error:
            raise EditkitError("editkit batch needs locks of POSIX, which this system lacks.") from error
        with (self.folder / LOCK).open("a+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, last - first, first)
            except OSError as error:
                raise EditkitError(
                    f"Another run is writing to {self.folder}; wait for it, or give another --out."
                ) from error
            yield

    def _append(self, made: Made) -> None:
        if self._log is None:
            (self.folder / LOGS).mkdir(exist_ok=True)
            # In the order of the names, later lines count more: two runs may begin within one second.
            name = f"{datetime.now():%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.jsonl"
            self._log = os.open(self.folder / LOGS / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(self._log, (json.dumps(asdict(made)) + "\n").encode())
        os.fsync(self._log)

    def _begin(self, told: Mapping[str, Any]) -> None:
        with atomic_files.whole(self.folder / SETTINGS) as file:
            file.write(json.dumps(told, indent=1).encode())

    def _idle(self) -> bool:
        """Whether nothing is logged and no run is at work, as after an option that was refused."""
        if any((self.folder / LOGS).glob("*")):
            return False
        try:
            with self.locked(0, 0):  # up to the end, wherever it is
                return True
        except EditkitError:
            return False

    def _check(self, kept: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        for name in {**kept, **told}:
            if kept.get(name) != told.get(name):
                raise EditkitError(
                    f"{self.folder} was begun with {name}={kept.get(name)!r}, now it is {told.get(name)!r}; "
                    "give the same, or another --out."
                )


def _settings(path: Path) -> dict[str, Any]:
    """The settings that a job was begun with."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EditkitError(f"The job's settings in {path} cannot be read; give another --out.") from error
    if not isinstance(found, dict):
        raise EditkitError(f"{path} does not hold the settings of a job; give another --out.")
    return found


def _made(line: str, where: str) -> Made:
    try:
        made = Made(**json.loads(line))
    except (TypeError, ValueError, RecursionError) as error:
        raise EditkitError(
            f"{where} is damaged; delete this line, and run again to make up for it."
        ) from error
    return made
