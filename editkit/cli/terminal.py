"""Progress and notes on stderr while a command runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from editkit.quiet import no_dataset_bars

if TYPE_CHECKING:
    from rich import progress as rich_progress

    from editkit.inference.progress import Progress, Watch
    from editkit.train.status import Status

Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress and no notes on stderr.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", help="Print seconds by stage, warnings of libraries, and tracebacks too."),
]


@dataclass
class Verbosity:
    """The amount that the running command prints."""

    quiet: bool = False
    verbose: bool = False

    def add(self, quiet: bool, verbose: bool) -> None:
        """Take a command's options beside those before the command."""
        self.quiet, self.verbose = self.quiet or quiet, self.verbose or verbose
        if self.quiet or not sys.stderr.isatty():
            no_dataset_bars()


verbosity = Verbosity()


class Bar:
    """One line of progress; it says nothing where there is nothing to show it on."""

    def __init__(self, shown: rich_progress.Progress | None, label: str, total: float | None) -> None:
        self._shown = shown
        self._task = shown.add_task(label, total=total) if shown else None
        self._label, self._done = label, 0.0

    def watch(self, told: Progress) -> None:
        """Show the steps of one edit."""
        if self._shown and self._task is not None:
            self._shown.update(self._task, completed=told.step, total=told.steps)

    def count(self, told: Progress) -> None:
        """Add a batch's step to the edits that are done, out of a total of edits."""
        self._done += len(told.seeds) / told.steps if told.step else 0
        if self._shown and self._task is not None:
            self._shown.update(self._task, completed=round(self._done))

    def advance(self, count: int) -> None:
        """Add items that are done."""
        if self._shown and self._task is not None:
            self._shown.advance(self._task, count)

    def phase(self, told: Status) -> None:
        """Show what a training run does."""
        if self._shown and self._task is not None:
            label = " ".join(filter(None, (told.phase, told.detail)))
            if label.partition(" ")[0] != self._label.partition(" ")[0]:
                self._shown.reset(self._task)
            self._label = label
            self._shown.update(self._task, description=label, completed=told.done, total=told.total or None)

    def begin(self, label: str) -> Watch:
        """Start again under another label; returns what shows the steps of its edit."""
        if self._shown and self._task is not None:
            self._shown.reset(self._task, description=label, total=None)
        return self.watch


@contextmanager
def progress(label: str, total: float | None = None) -> Iterator[Bar]:
    """A bar on stderr with steps or items and the time that is left, which goes away at the end.

    It is not shown with `--quiet`, or where stderr is no terminal.
    """
    if verbosity.quiet or not sys.stderr.isatty():
        yield Bar(None, label, total)
        return
    from rich import progress as parts
    from rich.console import Console

    columns = (
        parts.SpinnerColumn(),
        parts.TextColumn("{task.description}", markup=False),
        parts.BarColumn(),
        parts.MofNCompleteColumn(),
        parts.TimeElapsedColumn(),
        parts.TextColumn("left"),
        parts.TimeRemainingColumn(),
    )
    # What goes to a file or a pipe must not be drawn on stderr instead.
    redirected = sys.stdout.isatty()
    with parts.Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=redirected
    ) as shown:
        yield Bar(shown, label, total)
