"""The Train tab: choose a config and pairs, check and plan, start, watch, stop, resume, try in Compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from demos import own_data, run_files, theme, training
from demos.device import QUEUE, DeviceWorker
from demos.run_files import RunFiles
from demos.train_data import CONFIG
from demos.train_form import TrainForm
from demos.training import Training
from demos.visit import Visit
from editkit.errors import EditkitError
from editkit.train import status as statuses
from editkit.train.status import Status

EVERY = 1.0
"""Seconds between reads of a run's files."""


class Train:
    """The components of the tab and their handlers.

    Args:
        device: its backbone runs the trained adapters.
        visit: state with a `Visit`.
        run: the training run of the page.
        folders: folders whose runs may be watched besides the page's own.
        paths: whether visitors may name data by a path of this machine.
    """

    def __init__(
        self,
        device: DeviceWorker,
        visit: Any,
        run: Training,
        folders: Sequence[Path] = (),
        paths: bool = False,
    ) -> None:
        self.device, self.visit, self.run = device, visit, run
        self.folders = (training.OUTPUT.resolve(), *folders)
        self.recipes = training.recipes(device.editor.backbone.name)
        self.form = TrainForm(self.recipes, paths)
        self.timer = gr.Timer(EVERY, active=run.running)
        self._wire()

    def _wire(self) -> None:
        form = self.form
        self.outputs = [
            *(form.status, form.empty, form.loss, form.picture, form.attempt),
            *(form.begin, form.halt, form.resume, self.timer, form.watched),
        ]
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "preprocess": False}
        asked = [self.visit, form.config, form.steps, *form.data.inputs]
        form.begin.click(self.start, asked, self.outputs, api_name="train_start", **quick)
        form.resume.click(self.go_on, [form.steps], self.outputs, api_name="train_resume", **quick)
        form.halt.click(self.stop, None, [form.status], api_name="train_stop", **quick)
        form.config.change(form.description, [form.config], [form.words], api_name="train_about", **quick)
        self.timer.tick(self.shown, [form.watched], self.outputs, api_name="train_status", **quick)
        form.watched.input(self.shown, [form.watched], self.outputs, api_name="train_watch", **quick)
        slow: dict[str, Any] = {
            "concurrency_limit": 1,
            "show_progress": "minimal",
            "show_progress_on": form.status,
            "preprocess": False,
        }
        form.ask.click(
            self.planned,
            asked,
            [form.plan, form.status],
            concurrency_id=QUEUE,
            api_name="train_plan",
            **slow,
        )
        form.look.click(
            self.checked,
            [self.visit, form.config, *form.data.inputs],
            [form.findings, form.sheet, form.status],
            api_name="train_check",
            **slow,
        )

    def checked(
        self, visit: Visit, name: str, kind: str = CONFIG, upload: Any = None, path: str | None = None
    ) -> dict[Any, Any]:
        """Check the pairs: what is wrong with them, and a sheet of the worst, or of the first."""
        from editkit.cli.data import findings_table

        try:
            own = self.form.data.chosen(visit.new_folder(), kind, upload, path)
            found = own.check() if own else training.check_pairs(self._recipe(name).name, own_data.CHECKED)
        except EditkitError as error:
            return {self.form.status: theme.problem(str(error))}
        sheet, file = found.sheet() or self.form.data.first(own), visit.new_folder() / "sheet.png"
        if sheet is not None:
            sheet.save(file)
        verdict = "These data have errors; correct or leave out the pairs." if found.failed else "Checked."
        return {
            self.form.findings: theme.listing("Findings", findings_table(found)),
            self.form.sheet: gr.update(value=str(file) if sheet else None, visible=sheet is not None),
            self.form.status: theme.problem(verdict) if found.failed else theme.status(verdict),
        }

    def planned(
        self,
        visit: Visit,
        name: str,
        steps: int,
        kind: str = CONFIG,
        upload: Any = None,
        path: str | None = None,
    ) -> dict[Any, Any]:
        """Show the plan of a run."""
        try:
            settings, words = self.form.data.settings(visit.new_folder(), kind, upload, path)
            text = training.plan(self._recipe(name).name, steps, settings)
        except EditkitError as error:
            return {self.form.status: theme.problem(str(error))}
        return {
            self.form.plan: theme.listing("Plan", text),
            self.form.status: theme.status("Planned.", notes=words),
        }

    def start(
        self,
        visit: Visit,
        name: str,
        steps: int,
        kind: str = CONFIG,
        upload: Any = None,
        path: str | None = None,
    ) -> dict[Any, Any]:
        """Start a new run."""
        try:
            self.run.check_free()
            settings, words = self.form.data.settings(training.new_folder(), kind, upload, path)
            folder = self.run.start(self._recipe(name), steps, settings)
        except EditkitError as error:
            return {self.form.status: theme.problem(str(error))}
        changes = self.shown(folder.name)
        return changes | {self.form.status: self._line(RunFiles(folder=folder), self.run.status(), words)}

    def go_on(self, steps: int) -> dict[Any, Any]:
        """Resume the last run of this page."""
        try:
            self.run.resume(steps)
        except EditkitError as error:
            return {self.form.status: theme.problem(str(error))}
        return self.shown(None)

    def stop(self) -> dict[Any, Any]:
        """Stop the run of this page; it saves after its step."""
        words = "Stopping: it saves first." if self.run.stop() else "No run of this page is going on."
        return {self.form.status: theme.status(words)}

    def shown(self, name: str | None = None) -> dict[Any, Any]:
        """Show the state of a run: of the page's own where none is named, or else of the newest."""
        form, runs = self.form, self._runs()
        name = self._chosen(runs, name)
        files = runs[name] if name else None
        # Read once: were the run to end between two reads, the timer would stop before the buttons change.
        running = self.run.running
        rows, sheet = (files.figures(), files.sheet()) if files else ([], None)
        told = self._status(files)
        working = told is not None and told.alive
        return {
            form.status: self._line(files, told),
            form.empty: gr.update(visible=files is None),
            form.loss: gr.update(
                value=frame(rows) if rows else None, visible=len(rows) > 1
            ),  # a line needs two
            form.picture: gr.update(value=str(sheet) if sheet else None, visible=sheet is not None),
            form.attempt: gr.update(visible=files is not None and files.adapter() is not None),
            form.begin: gr.update(interactive=not running),
            form.halt: gr.update(interactive=running),
            form.resume: gr.update(interactive=self.run.output is not None and not running),
            self.timer: gr.Timer(active=working or running),
            form.watched: gr.update(choices=list(runs), value=name),
        }

    def attempted(self, visit: Visit, watched: str | None) -> tuple[str, str]:
        """Give the visitor's method the trained adapter; return the words for Compare and for this tab."""
        runs = self._runs()
        files = runs.get(watched or self._chosen(runs, None) or "")
        folder, told = (files.adapter(), files.status()) if files else (None, None)
        try:
            if files is None or folder is None or told is None:
                raise EditkitError("There is nothing trained yet; wait for the first validation or the end.")
            if told.backbone != self.device.editor.backbone.name:
                raise EditkitError(
                    f"It was trained on {told.backbone}; start the page with -b {told.backbone}."
                )
            name = f"{folder.parent.name}-{folder.name}-{files.step()}"
            self.device.editor_of(visit).load_adapter(folder, told.method, name)
        except EditkitError as error:
            return "", theme.problem(str(error))
        trained = f"{folder.parent.name} ({folder.name})"
        words = f"{told.method} uses {trained}, trained here; reload the page to undo."
        return theme.status("", notes=[words]), theme.status("The adapter is active in Compare.")

    def _runs(self) -> dict[str, RunFiles]:
        """Find the runs by name; the page's own is there before it has written anything."""
        runs, own = run_files.listed(self.folders), self.run.output
        if own is not None and own not in [each.folder for each in runs.values()]:
            return {own.name: RunFiles(folder=own), **runs}
        return runs

    def _chosen(self, runs: Mapping[str, RunFiles], name: str | None) -> str | None:
        """Return the name of the run to watch: the page's own where none is named, or else the newest."""
        if name in runs:
            return name
        own = (each for each, files in runs.items() if files.folder == self.run.output)
        return next(own, next(iter(runs), None))

    def _status(self, files: RunFiles | None) -> Status | None:
        """What a run says; of the page's own also before it says anything, and where it could not."""
        if files is None:
            return None
        return self.run.status() if files.folder == self.run.output else files.status()

    def _line(self, files: RunFiles | None, told: Status | None, notes: Sequence[str] = ()) -> str:
        if files is None or told is None:
            return theme.status("No run yet.")
        words = f"{files.folder.name}: {told.words()}"
        if told.phase == statuses.FAILED:
            return theme.problem(words)
        return theme.status(f"{words}; {told.detail}" if told.detail else words, told.share, notes)

    def _recipe(self, name: str) -> training.Recipe:
        if name not in self.recipes:
            raise EditkitError(f"There is no config {name!r} for this backbone; choose one from the list.")
        return self.recipes[name]


def frame(rows: list[dict[str, Any]]) -> Any:
    """Turn rows into a data frame for Gradio's plots."""
    import pandas as pd

    return pd.DataFrame(rows)
