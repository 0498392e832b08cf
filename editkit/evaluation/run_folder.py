"""The folder of a run: settings, items, and logs that only grow.

Processes write logs of their own. A line is there whole or does not count: a run can be killed at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from editkit import atomic_files
from editkit.errors import EditkitError
from editkit.evaluation import file_shapes
from editkit.evaluation.file_shapes import Shape, fits
from editkit.evaluation.records import Edit, Item, Problem

SETTINGS, ITEMS, PROBLEMS = "run.json", "items.jsonl", "problems.jsonl"
LOGS, PICTURES = "logs", "pictures"
GROWING = ("methods", "results", "metrics", "metric_options", "judge")
"""Settings that a later call may add to; each result is logged by itself."""


def settled(scores: Mapping[str, Any]) -> set[str]:
    """Metrics that need not score a result again: all but those that failed, and a judge out of reach."""
    return {
        name
        for name, found in scores.items()
        if found.get("error") is None and not (found.get("notes") or {}).get("again")
    }


class RunFolder:
    """One run's files.

    Args:
        path: the folder.
        rank: number of the process that writes.
    """

    def __init__(self, path: str | Path, rank: int = 0) -> None:
        self.path, self.rank = Path(path), rank

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run, as `begin` wrote them.

        Raises:
            EditkitError: where this is no run's folder.
        """
        try:
            found: dict[str, Any] = json.loads((self.path / SETTINGS).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise EditkitError(
                f"{self.path} is no run's folder; give the --out of `editkit eval run`."
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise EditkitError(f"{self.path / SETTINGS} cannot be read; start the run again.") from error
        if not fits(found, file_shapes.RUN):
            raise EditkitError(f"{self.path / SETTINGS} is not as a run writes it; start the run again.")
        return found

    def begun(self, shared: bool = False) -> bool:
        """Whether a run goes on here; one that has logged nothing yet starts anew, with any settings.

        Args:
            shared: whether other commands may do parts of it, and have begun.
        """
        logs = self.path / LOGS
        logged = shared or (logs.is_dir() and any(logs.iterdir()))
        return logged and (self.path / SETTINGS).is_file()

    def begin(self, settings: Mapping[str, Any], identity: Mapping[str, Any], shared: bool = False) -> None:
        """Start or go on: settings that decide results must be those of what is there already.

        Raises:
            EditkitError: where they are not, or something else is in the folder.
        """
        if self.begun(shared):
            before = self.settings["identity"]
            for name, value in json.loads(json.dumps(identity)).items():
                if before.get(name) != value:
                    raise EditkitError(
                        f"The run in {self.path} has {name}={before.get(name)!r}, and {value!r} is given; "
                        "choose another --out, or the same settings."
                    )
        elif self._strange():
            raise EditkitError(f"The folder {self.path} holds something else; choose another --out.")
        self.write(SETTINGS, json.dumps({**settings, "identity": identity}, indent=2) + "\n")

    def _strange(self) -> bool:
        """Whether the folder holds something, and no run; what is half-written may be a run's settings."""
        if (self.path / SETTINGS).is_file() or not self.path.is_dir():
            return False
        return not all(atomic_files.MARKED.fullmatch(each.name) for each in self.path.iterdir())

    def write(self, name: str, text: str) -> Path:
        """Write a file whole or not at all.

        Raises:
            EditkitError: where it cannot be written.
        """
        with atomic_files.whole(self.path / name) as file:
            file.write(text.encode())
        return self.path / name

    def write_items(self, found: Iterable[Item | Problem], pictures: Mapping[str, Mapping[str, str]]) -> None:
        """Write what the benchmark holds, an item or a problem a line, one by one.

        Args:
            found: the items and the problems.
            pictures: digests of each item's pictures.

        Raises:
            EditkitError: where they cannot be written.
        """
        with atomic_files.whole(self.path / ITEMS) as items, atomic_files.whole(self.path / PROBLEMS) as bad:
            for each in found:
                if isinstance(each, Item):
                    items.write(_line({**described(each), "pictures": pictures.get(each.id, {})}))
                else:
                    bad.write(_line(asdict(each)))

    def items(self) -> Iterator[dict[str, Any]]:
        """The items as they were written, in order."""
        yield from read_lines(self.path / ITEMS, file_shapes.ITEM)

    def problems(self) -> Iterator[dict[str, Any]]:
        """The benchmark's bad rows."""
        yield from read_lines(self.path / PROBLEMS, file_shapes.PROBLEM)

    def picture(self, method: str, item: Item) -> str:
        """Return the path of a result below the folder."""
        return f"{PICTURES}/{method}/{item.stem}.png"

    def log_edits(self, edits: Sequence[Edit]) -> None:
        """Add what is known of some results, all of them or none."""
        self._append("edits", [asdict(edit) for edit in edits])

    def edits(self) -> dict[tuple[str, str], Edit]:
        """The logged results by method and item; a picture takes the place of an earlier failure."""
        found: dict[tuple[str, str], Edit] = {}
        known = [field.name for field in fields(Edit)]
        for line in self._logged("edits", file_shapes.EDIT):
            edit = Edit(**{name: line[name] for name in known if name in line})
            before = found.setdefault((edit.method, edit.item), edit)
            if before.error is not None or edit.error is None:
                found[edit.method, edit.item] = edit
        return found

    def digests(self) -> dict[tuple[str, str], set[str]]:
        """The digests of results made elsewhere, by method and item; logs of processes tell no order."""
        found: dict[tuple[str, str], set[str]] = {}
        for line in self._logged("edits", file_shapes.EDIT):
            if line.get("digest"):
                found.setdefault((line["method"], line["item"]), set()).add(line["digest"])
        return found

    def log_scores(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines of scores, or of what stopped metrics, or of what a failure was asked."""
        self._append("scores", lines)

    def scores(self) -> Iterator[dict[str, Any]]:
        """All logged scores; later lines of a result add to earlier ones."""
        yield from self._logged("scores", file_shapes.SCORES)

    def mend(self) -> None:
        """Cut half a line off this process's logs, which a killed process may leave."""
        for kind in ("edits", "scores"):
            path = self._log(kind, self.rank)
            if not path.is_file():
                continue
            with path.open("r+b") as file:
                data = file.read()
                file.truncate(data.rfind(b"\n") + 1)

    def _append(self, kind: str, lines: Sequence[Mapping[str, Any]]) -> None:
        path = self._log(kind, self.rank)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                data = b"".join(map(_line, lines))
                while data:
                    data = data[os.write(handle, data) :]
            finally:
                os.close(handle)
        except OSError as error:
            raise EditkitError(
                f"The log {path} cannot be written ({error.strerror}); free some space."
            ) from error

    def _log(self, kind: str, rank: int) -> Path:
        return self.path / LOGS / f"{kind}-{rank}.jsonl"

    def _logged(self, kind: str, shape: Shape) -> Iterator[dict[str, Any]]:
        for path in sorted((self.path / LOGS).glob(f"{kind}-*.jsonl")):
            yield from read_lines(path, shape)


def read_lines(path: Path, shape: Shape) -> Iterator[dict[str, Any]]:
    """The objects of a file, one a line; nothing where there is no file.

    Half a line at its end does not count.

    Raises:
        EditkitError: where another line is damaged, or has another shape.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            if not fits(found, shape):
                raise EditkitError(
                    f"Line {number} of {path} is damaged; delete this line, and run again to make up for it."
                )
            yield found


def news(edits: Iterable[Edit], logged: Mapping[tuple[str, str], Edit]) -> list[Edit]:
    """The edits that do not merely fail as they did before."""
    return [
        edit
        for edit in edits
        if edit.error is None
        or (before := logged.get((edit.method, edit.item))) is None
        or before.error != edit.error
    ]


def described(item: Item) -> dict[str, Any]:
    """Return the parts of an item that a report needs, in JSON's types."""
    names = ("id", "instruction", "category", "session", "turn", "last", "published", "words")
    told = {name: getattr(item, name) for name in names} | {"chained": item.source is None}
    return {**told, "stem": item.stem, "fields": dict(item.fields)}


def _line(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", errors="backslashreplace")
