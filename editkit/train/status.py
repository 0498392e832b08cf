"""The status of a run: one small file that says what the run is doing, for anybody who watches it.

The parts of a run call `tell`. Inside `reporting` that writes `status.json` into the run's folder; elsewhere
it does nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from editkit import atomic_files
from editkit.errors import EditkitWarning
from editkit.train import folder_lock, stopping
from editkit.train.stopping import RunStoppedError

FILE = "status.json"
STARTING, LOADING, READING, ENCODING = "starting", "loading weights", "reading data", "encoding latents"
WORDS, TRAINING, VALIDATING = "encoding instructions", "training", "validating"
DONE, FAILED, STOPPED = "done", "failed", "stopped"
OVER = (DONE, FAILED, STOPPED)
"""Phases in which a run no longer works."""
EVERY = 0.5
"""Least seconds between two writes in one phase."""
SILENT = 120.0
"""Seconds without a word after which a run on another machine counts as ended."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The state of a run at one moment.

    Attributes:
        phase: one of this module's phases.
        done: number of things of this phase that are done.
        total: number of things to do; 0 where it is not known.
        detail: loss, speed and memory of a run that trains.
        reason: why the run ended; empty before its end and for a run that is done.
        steps: number of steps that the run trains.
        method: name of the method; empty for recipes without one.
        backbone: name of the backbone; empty for recipes without one.
        pid: number of the run's process.
        host: name of the run's machine.
        started: when the run began, in seconds since 1970.
        updated: when this was written, in seconds since 1970.
    """

    phase: str = STARTING
    done: int = 0
    total: int = 0
    detail: str = ""
    reason: str = ""
    steps: int = 0
    method: str = ""
    backbone: str = ""
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    started: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)

    @property
    def alive(self) -> bool:
        """Whether the run still works; a run that was killed leaves no last word."""
        if self.phase in OVER:
            return False
        if self.host != socket.gethostname():
            return time.time() - self.updated < SILENT
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another person's process
            pass
        return True

    def words(self) -> str:
        """Describe the phase with its count, or the end with its reason."""
        if self.phase not in OVER and not self.alive:
            return f"ended without a word while {self._counted()}; resume it from its last checkpoint"
        return f"{self.phase}: {self.reason}" if self.reason else self._counted()

    def _counted(self) -> str:
        if not self.total:
            return self.phase
        unit = " step" if self.phase == TRAINING else ""
        return f"{self.phase}{unit} {self.done} of {self.total}"

    @property
    def share(self) -> float | None:
        """Share of the phase that is done; None where it is not known."""
        return min(1.0, self.done / self.total) if self.total else None


Watch = Callable[[Status], None]
"""Function that is called with each status."""


class Reporter:
    """Writes a run's status and calls a watcher.

    Args:
        folder: folder of the run; None writes nothing.
        first: the status at the beginning.
        watch: watcher.
    """

    def __init__(self, folder: Path | None, first: Status, watch: Watch | None) -> None:
        self.folder, self.status, self._watch = folder, first, watch
        self._written = 0.0
        self.trained = False

    def tell(self, phase: str, done: int = 0, total: int = 0, detail: str = "", reason: str = "") -> None:
        """Report what the run does now."""
        changed = phase != self.status.phase
        self.status = replace(
            self.status,
            phase=phase,
            done=done,
            total=total,
            detail=detail,
            reason=reason,
            updated=time.time(),
        )
        self.trained |= phase == TRAINING
        if self._watch:
            self._watch(self.status)
        if changed or done == total or time.monotonic() - self._written >= EVERY:
            self.write()

    def end(self, phase: str, reason: str = "") -> None:
        """Report the end of the run; counts and detail stay those of its last phase."""
        last = self.status
        self.tell(phase, last.done, last.total, last.detail, reason)

    def write(self) -> None:
        """Write the status; where that fails, warn once and go on without."""
        if self.folder is None:
            return
        self._written = time.monotonic()
        try:
            with atomic_files.beside(self.folder / FILE) as partial:
                partial.write_text(json.dumps(asdict(self.status)) + "\n", encoding="utf-8")
        except OSError as error:
            said = f"The status {self.folder / FILE} cannot be written ({error.strerror}); the run goes on."
            self.folder = None
            warnings.warn(said, EditkitWarning, stacklevel=3)


_reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


def tell(phase: str, done: int = 0, total: int = 0, detail: str = "") -> None:
    """Report what the run does now; outside `reporting` it does nothing."""
    if reporter := _reporter.get():
        reporter.tell(phase, done, total, detail)


def fail(reason: str) -> None:
    """Report the end of the run by a failure; outside `reporting` it does nothing."""
    if reporter := _reporter.get():
        reporter.end(FAILED, reason)


@contextmanager
def reporting(
    folder: Path, about: Mapping[str, Any], watch: Watch | None = None, *, main: bool = True
) -> Iterator[None]:
    """Write the status of the run within the block, and at its end `done`, or `failed` or `stopped` and why.

    A run that fails before it trains leaves no folder where there was none before. Nobody else trains in the
    folder within the block.

    Args:
        folder: folder of the run.
        about: the run's `steps`, `method` and `backbone`.
        watch: called with each status.
        main: whether this process writes files.

    Raises:
        EditkitError: where another run trains in the folder.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    with folder_lock.alone(folder) if main else nullcontext():
        reporter = Reporter(folder if main else None, Status(**about), watch)
        reporter.write()
        token = _reporter.set(reporter)
        try:
            yield
        except (RunStoppedError, KeyboardInterrupt) as error:
            reporter.end(STOPPED, str(error) or stopping.KILLED)
            raise
        except BaseException as error:
            reporter.end(FAILED, str(error) or type(error).__name__)
            if main and not reporter.trained and folder in made:
                _remove(made)
            raise
        else:
            reporter.end(DONE)
        finally:
            _reporter.reset(token)


def _remove(made: list[Path]) -> None:
    """Remove a run's folder, and those above it that were made for it and hold nothing else."""
    folder, *above = made
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # one that holds another run
        for place in above:
            place.rmdir()


def read_status(folder: Path) -> Status | None:
    """Read the status of a run; None where the folder holds none, or one that cannot be understood."""
    try:
        return Status(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def runs(folder: Path) -> dict[Path, Status]:
    """Find the runs in a folder and up to three levels below it, the newest first."""
    levels = [folder.glob("/".join((*("*",) * depth, FILE))) for depth in range(4)]
    places = {path.parent for level in levels for path in level}
    found = {place: status for place in places if (status := read_status(place))}
    return dict(sorted(found.items(), key=lambda each: -each[1].started))
