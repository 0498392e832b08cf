"""Copy results under the names of a benchmark's own layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from editkit.errors import EditkitError
from editkit.evaluation.records import StoredPicture
from editkit.evaluation.report.frame import Row
from editkit.evaluation.run_folder import RunFolder
from editkit.imaging import images


def copy(folder: RunFolder, rows: Iterable[Row], out: Path) -> dict[str, Path]:
    """Copy each result to its published name below a folder; return paths by item. Failed ones have none.

    Raises:
        EditkitError: where a name leaves the folder, or a picture cannot be read.
    """
    found = {}
    for row in rows:
        if row.error is not None or not row.picture:
            continue
        target = out / row.item["published"]
        if not target.resolve().is_relative_to(out.resolve()):
            raise EditkitError(
                f"The item {row.item['id']} names its result outside the export; correct its id."
            )
        source = folder.path / row.picture
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix.lower() == target.suffix.lower():
            shutil.copyfile(source, target)
        else:
            images.save(StoredPicture(value=source, folder=folder.path, what="result").picture(), target)
        found[row.item["id"]] = target
    return found
