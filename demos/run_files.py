"""The files of a training run, as the page shows them, wherever the run was started."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demos.visit import served
from editkit.train import status
from editkit.train.status import Status


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """A run's folder.

    Attributes:
        folder: where the run writes.
    """

    folder: Path

    def status(self) -> Status | None:
        """Return the run's last word; None where it has not said anything."""
        return status.read_status(self.folder)

    def figures(self) -> list[dict[str, Any]]:
        """Return the loss by step on training data and on held-out data."""
        logs = (("training", "log.jsonl", "loss"), ("held out", "validation.jsonl", "held-out loss"))
        return [
            {"step": row["step"], "loss": row[key], "of": name}
            for name, file, key in logs
            for row in self._read(file)
            if key in row
        ]

    def step(self) -> int:
        """Return the last logged step."""
        logged = self._read("log.jsonl")
        return int(logged[-1]["step"]) if logged else 0

    def sheet(self) -> Path | None:
        """Copy the newest sheet of held-out edits to where the page serves files from; None without one."""
        sheets = sorted(self.folder.glob("validation/step-*.png"))
        if not sheets:
            return None
        copy = served() / f"{self.folder.name}-{sheets[-1].name}"
        if not copy.exists():
            shutil.copyfile(sheets[-1], copy)
        return copy

    def adapter(self) -> Path | None:
        """Return the folder of the trained adapter: the export, or the best so far."""
        folders = [self.folder / name for name in ("export", "best")]
        return next((folder for folder in folders if folder.is_dir()), None)

    def _read(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return []
        # The last line may be incomplete.
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def listed(folders: Sequence[Path]) -> dict[str, RunFiles]:
    """Find the runs below folders by name, the newest first."""
    found = {place: each for folder in folders for place, each in status.runs(folder).items()}
    newest = sorted(found, key=lambda place: -found[place].started)
    names: dict[str, RunFiles] = {}
    for place in newest:
        name = place.name if place.name not in names else str(place)
        names[name] = RunFiles(folder=place)
    return names
