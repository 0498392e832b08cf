"""The Train tab: choose a config and pairs, check and plan, start, watch, stop, resume, try in Compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from demos import own_data, run_files, theme, training
from demos.device import QUEUE, USUAL, Device, Visit
from demos.run_files import RunFiles
from demos.train_data import TrainData
from demos.training import Training
from editkit.errors import EditkitError
from editkit.train import status as statuses
from editkit.train.status import Status

EVERY = 1.0
"""Seconds between reads of a run's files."""
EMPTY = "Choose what to train and press Start; loss and held-out edits appear here while it runs."


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
        self, device: Device, visit: Any, run: Training, folders: Sequence[Path] = (), paths: bool = False
    ) -> None:
        self.device, self.visit, self.run = device, visit, run
        self.folders = (training.OUTPUT.resolve(), *folders)
        self.recipes = training.recipes(device.editor.backbone.name)
        with gr.Row(elem_classes="thirds"):
            with gr.Column(min_width=300):
                self._asking(paths)
            with gr.Column(min_width=300):
                self._watching()
            with gr.Column(min_width=300):
                self._found()
        self.timer = gr.Timer(EVERY, active=run.running)
        self._wire()

    def _asking(self, paths: bool) -> None:
        usual = [name for name, recipe in self.recipes.items() if recipe.method == USUAL]
        first = next(iter([*usual, *self.recipes]), None)
        self.config = gr.Dropdown(list(self.recipes), value=first, label="Config", elem_id="train-config")
        self.words = gr.HTML(self.description(first))
        self.data = TrainData(paths)
        self.steps = gr.Number(
            value=100,
            precision=0,
            minimum=1,
            label="Steps",
            info="To go on with a run, give more than it has had.",
            elem_id="train-steps",
        )
        with gr.Row(elem_classes="actions"):
            self.begin = gr.Button("Start", variant="primary", min_width=90, elem_id="train-start")
            self.halt = gr.Button("Stop", min_width=70, interactive=False, elem_id="train-stop")
            self.resume = gr.Button("Resume", min_width=80, interactive=False, elem_id="train-resume")
        with gr.Row():
            self.look = gr.Button("Check the data", min_width=120, elem_id="train-check")
            self.ask = gr.Button("Show the plan", min_width=120, elem_id="train-plan")

    def _watching(self) -> None:
        self.watched = gr.Dropdown(
            [],
            label="Run",
            info="Runs of this page, and of folders that its operator named with --runs.",
            elem_id="train-run",
        )
        self.status = gr.HTML(theme.status("No run yet."), elem_id="train-status")
        self.empty = gr.HTML(theme.empty("Nothing trained yet", EMPTY))
        self.loss = gr.LinePlot(
            x="step", y="loss", color="of", label="Loss", visible=False, height=280, elem_id="train-loss"
        )

    def _found(self) -> None:
        self.attempt = gr.Button("Try it in Compare", variant="primary", visible=False, elem_id="train-try")
        self.picture = gr.Image(
            label="Held-out edits: source, edit, answer",
            format="png",
            interactive=False,
            visible=False,
            elem_id="train-picture",
        )
        self.findings = gr.HTML(elem_id="train-findings")
        self.sheet = gr.Image(
            label="Pairs to look at: source, answer",
            show_label=False,  # it would lie over the sheet's first line
            format="png",
            interactive=False,
            visible=False,
            elem_id="train-sheet",
        )
        self.plan = gr.HTML(elem_id="train-plan-text")

    def _wire(self) -> None:
        self.outputs = [
            *(self.status, self.empty, self.loss, self.picture, self.attempt),
            *(self.begin, self.halt, self.resume, self.timer, self.watched),
        ]
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "preprocess": False}
        asked = [self.visit, self.config, self.steps, *self.data.inputs]
        self.begin.click(self.start, asked, self.outputs, api_name="train_start", **quick)
        self.resume.click(self.go_on, [self.steps], self.outputs, api_name="train_resume", **quick)
        self.halt.click(self.stop, None, [self.status], api_name="train_stop", **quick)
        self.config.change(self.description, [self.config], [self.words], api_name="train_about", **quick)
        self.timer.tick(self.shown, [self.watched], self.outputs, api_name="train_status", **quick)
        self.watched.input(self.shown, [self.watched], self.outputs, api_name="train_watch", **quick)
        slow: dict[str, Any] = {
            "concurrency_limit": 1,
            "show_progress": "minimal",
            "show_progress_on": self.status,
            "preprocess": False,
        }
        self.ask.click(
            self.planned,
            asked,
            [self.plan, self.status],
            concurrency_id=QUEUE,
            api_name="train_plan",
            **slow,
        )
        self.look.click(
            self.checked,
            [self.visit, *self.data.inputs, self.config],
            [self.findings, self.sheet, self.status],
            api_name="train_check",
            **slow,
        )

    def description(self, name: str | None) -> str:
        """Show the description of a config."""
        return theme.hint(
            self.recipes[name].words if name in self.recipes else "No config trains this backbone."
        )

    def checked(self, visit: Visit, kind: str, upload: Any, path: str | None, name: str) -> dict[Any, Any]:
        """Check the pairs: what is wrong with them, and a sheet of the worst, or of the first."""
        from editkit.cli.data import findings_table

        try:
            own = self.data.chosen(visit.new_folder(), kind, upload, path)
            found = own.check() if own else training.check(self._recipe(name).name, own_data.CHECKED)
        except EditkitError as error:
            return {self.status: theme.problem(str(error))}
        sheet, file = found.sheet() or self.data.first(own), visit.new_folder() / "sheet.png"
        if sheet is not None:
            sheet.save(file)
        verdict = "These data have errors; mend or leave out the pairs." if found.failed else "Checked."
        return {
            self.findings: theme.listing("Findings", findings_table(found)),
            self.sheet: gr.update(value=str(file) if sheet else None, visible=sheet is not None),
            self.status: theme.problem(verdict) if found.failed else theme.status(verdict),
        }

    def planned(self, visit: Visit, name: str, steps: int, *data: Any) -> dict[Any, Any]:
        """Show the plan of a run."""
        try:
            settings, words = self.data.settings(visit.new_folder(), *data)
            text = training.plan(self._recipe(name).name, steps, settings)
        except EditkitError as error:
            return {self.status: theme.problem(str(error))}
        return {self.plan: theme.listing("Plan", text), self.status: theme.status("Planned.", notes=words)}

    def start(self, visit: Visit, name: str, steps: int, *data: Any) -> dict[Any, Any]:
        """Start a new run."""
        try:
            self.run.check_free()
            settings, words = self.data.settings(training.new_folder(), *data)
            folder = self.run.start(self._recipe(name), steps, settings)
        except EditkitError as error:
            return {self.status: theme.problem(str(error))}
        changes = self.shown(folder.name)
        return changes | {self.status: self._line(RunFiles(folder=folder), self.run.status(), words)}

    def go_on(self, steps: int) -> dict[Any, Any]:
        """Resume the last run of this page."""
        try:
            self.run.resume(steps)
        except EditkitError as error:
            return {self.status: theme.problem(str(error))}
        return self.shown(None)

    def stop(self) -> dict[Any, Any]:
        """Stop the run of this page; it saves after its step."""
        words = "Stopping: it saves first." if self.run.stop() else "No run of this page is going on."
        return {self.status: theme.status(words)}

    def shown(self, name: str | None = None) -> dict[Any, Any]:
        """Show the state of a run: of the page's own where none is named, or else of the newest."""
        runs = run_files.listed(self.folders)
        own = self.run.output
        if own is not None and own not in [each.folder for each in runs.values()]:
            runs = {own.name: RunFiles(folder=own), **runs}
        if name not in runs:
            name = next((each for each, files in runs.items() if files.folder == own), next(iter(runs), None))
        files = runs[name] if name else None
        rows, sheet = (files.figures(), files.sheet()) if files else ([], None)
        told = self._told(files)
        working = told is not None and told.alive
        return {
            self.status: self._line(files, told),
            self.empty: gr.update(visible=files is None),
            self.loss: gr.update(value=frame(rows) if rows else None, visible=bool(rows)),
            self.picture: gr.update(value=str(sheet) if sheet else None, visible=sheet is not None),
            self.attempt: gr.update(visible=files is not None and files.adapter() is not None),
            self.begin: gr.update(interactive=not self.run.running),
            self.halt: gr.update(interactive=self.run.running),
            self.resume: gr.update(interactive=own is not None and not self.run.running),
            self.timer: gr.Timer(active=working or self.run.running),
            self.watched: gr.update(choices=list(runs), value=name),
        }

    def attempted(self, visit: Visit, watched: str | None) -> tuple[str, str]:
        """Give the visitor's method the trained adapter; return the words for Compare and for this tab."""
        files = run_files.listed(self.folders).get(watched or "")
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

    def _told(self, files: RunFiles | None) -> Status | None:
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
        detail = [told.detail] if told.detail else []
        return theme.status(words, told.share, [*detail, *notes])

    def _recipe(self, name: str) -> training.Recipe:
        if name not in self.recipes:
            raise EditkitError(f"There is no config {name!r} for this backbone; choose one from the list.")
        return self.recipes[name]


def frame(rows: list[dict[str, Any]]) -> Any:
    """Turn rows into a data frame for Gradio's plots."""
    import pandas as pd

    return pd.DataFrame(rows)
