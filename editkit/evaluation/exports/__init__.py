"""Exports: a run's results in the layouts that benchmarks' own scripts read."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from editkit.atomic_files import whole_folder
from editkit.errors import EditkitError, unknown
from editkit.evaluation.report import frame
from editkit.evaluation.report.frame import Frame
from editkit.evaluation.run_folder import RunFolder

EXPORTS = {
    "gedit": "editkit.evaluation.exports.gedit",
    "imgedit": "editkit.evaluation.exports.imgedit",
    "magicbrush": "editkit.evaluation.exports.magicbrush",
}
"""Modules by name; each has `write(found, folder, out, place)`, which gives notes on what is missing.

`out` becomes `place` when it is complete, so that paths inside its files begin with `place`.
"""

Write = Callable[[Frame, RunFolder, Path, Path], list[str]]


def export(path: str | Path, out: str | Path, name: str | None = None) -> list[str]:
    """Write a run's results in a benchmark's own layout, all or none; return notes on what is missing.

    Args:
        path: the run's folder.
        out: a folder that is new or empty.
        name: of the layout; the benchmark's own where None.

    Raises:
        EditkitError: where the folder holds no run, the layout is unknown or not this benchmark's, or the
            disk refuses.
    """
    folder = RunFolder(path)
    found = frame.read_frame(folder)
    benchmark = found.settings["benchmark"]
    chosen = name or benchmark["export"]
    if not chosen:
        raise EditkitError(
            f"{benchmark['name']} has no layout of results of its own; pictures are in {path}."
        )
    if chosen not in EXPORTS:
        raise EditkitError(unknown("layout of results called", chosen, EXPORTS))
    if chosen != benchmark["export"]:
        raise EditkitError(f"The layout {chosen} is not one of {benchmark['name']}; leave --as out.")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EditkitError(f"{out} holds something already; give a new folder.")
    write: Write = importlib.import_module(EXPORTS[chosen]).write
    with whole_folder(out.resolve()) as partial:  # `.` has no name of its own
        return write(found, folder, partial, out)
