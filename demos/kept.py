"""Keep files of the page on disk: results with their recipes, and sessions, for each browser by itself."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
import zipfile
from pathlib import Path

from PIL import Image

from demos.visit import Visit
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.inference import provenance
from editkit.sessions import store
from editkit.types import EditResult

KEY = re.compile(r"[0-9a-f]{32}")
"""A browser's secret: 128 random bits."""
MOST_RESULTS, MOST_SESSIONS = 200, 30
"""Limit of what a page for several people keeps of a browser; the oldest go first."""


class Kept:
    """The folder of a page, in which each browser has a room; no visitor names a file in it.

    Args:
        folder: where all rooms lie.
        personal: whether the page is for one person, whose browsers share one room.
    """

    def __init__(self, folder: Path, personal: bool) -> None:
        self.folder, self.personal = folder.absolute(), personal

    def room(self, visit: Visit) -> Path:
        """Return the folder of a browser; its name does not tell the browser's secret."""
        if self.personal:
            return self.folder / "mine"
        return self.folder / hashlib.sha256(visit.secret().encode()).hexdigest()[:32]

    def add(self, visit: Visit, source: Image.Image, result: EditResult) -> tuple[str, ...]:
        """Keep a result and its source; one without a picture is not kept. Return why, where it failed."""
        if result.image is None:
            return ()
        try:
            self._add(visit, source, result, result.image)
        except EditkitError as error:
            return (f"The result is not in Results: {error}",)
        return ()

    def _add(self, visit: Visit, source: Image.Image, result: EditResult, edited: Image.Image) -> None:
        name = f"{_now()}-{result.method}-{result.seed}.png"
        images.save(edited, self._made("results", visit) / name, result.recipe)
        file = self._source(visit, str(result.recipe["source_sha256"]))
        if not file.exists():
            images.save(source, file)
        if not self.personal:
            self._trim_results(visit)

    def _trim_results(self, visit: Visit) -> None:
        """Delete results beyond the limit, and their sources where no other result was made from them."""
        results = self.results(visit)
        old = results[MOST_RESULTS:]
        sources = {self.source(visit, file) for file in old}
        if sources:
            sources -= {self.source(visit, file) for file in results[:MOST_RESULTS]}
        for file in (*old, *(file for file in sources if file)):
            file.unlink(missing_ok=True)

    def results(self, visit: Visit) -> tuple[Path, ...]:
        """List a browser's results, the newest first."""
        return tuple(sorted(self.room(visit).glob("results/*.png"), reverse=True))

    def source(self, visit: Visit, result: Path) -> Path | None:
        """Return the picture that a result was made from; None where it is gone."""
        file = self._source(visit, str(provenance.read_recipe(result).get("source_sha256")))
        return file if file.is_file() else None

    def packed(self, visit: Visit, into: Path) -> Path:
        """Pack a browser's results and their sources into a zip in a folder.

        Raises:
            EditkitError: where there are none.
        """
        room = self.room(visit)
        files = [*self.results(visit), *sorted(room.glob("sources/*.png"))]
        if not files:
            raise EditkitError("There are no results to download yet; make one in Compare first.")
        packed = into / "editkit-results.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for file in files:
                archive.write(file, file.relative_to(room))
        return packed

    def new_session(self, visit: Visit) -> Path:
        """Return a new folder for a session."""
        if not self.personal:
            for old in self.sessions(visit)[MOST_SESSIONS - 1 :]:
                shutil.rmtree(old, ignore_errors=True)
        return self._made("sessions", visit) / _now()

    def sessions(self, visit: Visit) -> tuple[Path, ...]:
        """List the folders of a browser's sessions, the one that was changed last first."""
        files = list(self.room(visit).glob(f"sessions/*/{store.FILE}"))
        files.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
        return tuple(file.parent for file in files)

    def forget(self, visit: Visit) -> None:
        """Delete a browser's results and sessions."""
        shutil.rmtree(self.room(visit), ignore_errors=True)

    def _source(self, visit: Visit, digest: str) -> Path:
        return self._made("sources", visit) / f"{Path(digest).name}.png"

    def _made(self, name: str, visit: Visit) -> Path:
        folder = self.room(visit) / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"{folder} cannot be made ({error.strerror}); give another --output."
            raise EditkitError(problem) from error
        return folder


def _now() -> str:
    """Return the time as a name; names sort by it."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09}"
