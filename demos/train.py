"""The Train tab: choose a config, see its plan, start, watch, stop, resume, try the adapter in Compare."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demos import theme, training
from demos.device import QUEUE, USUAL, Device, Visit
from demos.training import Training
from editkit.errors import EditkitError

EVERY = 2.0
"""Seconds between reads of a run's files."""
EMPTY = "Choose what to train and press Start; loss and held-out edits appear here while it runs."


class Train:
    """The components of the tab and their handlers.

    Args:
        device: its backbone runs the trained adapters.
        visit: state with a `Visit`.
        run: the training run of the page.
    """

    def __init__(self, device: Device, visit: Any, run: Training) -> None:
        self.device, self.visit, self.run = device, visit, run
        self.recipes = training.recipes(device.editor.backbone.name)
        with gr.Row(elem_classes="thirds"):
            with gr.Column(min_width=300):
                self._asking()
            with gr.Column(min_width=300):
                self.status = gr.HTML(theme.status("No run yet."), elem_id="train-status")
                self.empty = gr.HTML(theme.empty("Nothing trained yet", EMPTY))
                self.loss = gr.LinePlot(
                    x="step",
                    y="loss",
                    color="of",
                    label="Loss",
                    visible=False,
                    height=280,
                    elem_id="train-loss",
                )
            with gr.Column(min_width=300):
                self.picture = gr.Image(
                    label="Held-out edits: source, edit, answer",
                    format="png",
                    interactive=False,
                    visible=False,
                    elem_id="train-picture",
                )
                self.plan = gr.HTML(elem_id="train-plan-text")
                self.attempt = gr.Button("Try it in Compare", visible=False, elem_id="train-try")
        self.timer = gr.Timer(EVERY, active=run.running)
        self._wire()

    def _asking(self) -> None:
        usual = [name for name, recipe in self.recipes.items() if recipe.method == USUAL]
        first = next(iter([*usual, *self.recipes]), None)
        self.config = gr.Dropdown(list(self.recipes), value=first, label="Config", elem_id="train-config")
        self.words = gr.HTML(self.description(first))
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
        self.ask = gr.Button("Show the plan", elem_id="train-plan")

    def _wire(self) -> None:
        self.outputs = [
            *(self.status, self.empty, self.loss, self.picture, self.attempt),
            *(self.begin, self.halt, self.resume, self.timer),
        ]
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "preprocess": False}
        inputs = [self.config, self.steps]
        self.begin.click(self.start, inputs, self.outputs, api_name="train_start", **quick)
        self.resume.click(self.go_on, [self.steps], self.outputs, api_name="train_resume", **quick)
        self.halt.click(self.stop, None, self.outputs, api_name="train_stop", **quick)
        self.config.change(self.description, [self.config], [self.words], api_name="train_about", **quick)
        self.timer.tick(self.shown, None, self.outputs, api_name="train_status", **quick)
        self.ask.click(
            self.planned,
            inputs,
            [self.plan, self.status],
            concurrency_id=QUEUE,
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=self.status,
            preprocess=False,
            api_name="train_plan",
        )

    def description(self, name: str | None) -> str:
        """Show the description of a config."""
        return theme.hint(
            self.recipes[name].words if name in self.recipes else "No config trains this backbone."
        )

    def planned(self, name: str, steps: int) -> dict[Any, Any]:
        """Show the plan of a run."""
        try:
            text = training.plan(self._recipe(name).name, steps)
        except EditkitError as error:
            return {self.status: theme.problem(str(error))}
        return {self.plan: theme.listing("Plan", text), self.status: theme.status("Planned.")}

    def start(self, name: str, steps: int) -> dict[Any, Any]:
        """Start a new run."""
        try:
            self.run.start(self._recipe(name), steps)
        except EditkitError as error:
            return {self.status: theme.problem(str(error))}
        return self.shown()

    def go_on(self, steps: int) -> dict[Any, Any]:
        """Resume the last run."""
        try:
            self.run.resume(steps)
        except EditkitError as error:
            return {self.status: theme.problem(str(error))}
        return self.shown()

    def stop(self) -> dict[Any, Any]:
        """Stop the run; it saves after its step."""
        words = "Stopping: it saves first." if self.run.stop() else "Nothing is running."
        return {self.status: theme.status(words)}

    def shown(self) -> dict[Any, Any]:
        """Show the state of the run from its files."""
        run, rows = self.run, self.run.figures()
        begun = run.output is not None
        pictures = run.pictures()
        return {
            self.status: self._words(),
            self.empty: gr.update(visible=not begun),
            self.loss: gr.update(value=frame(rows) if rows else None, visible=bool(rows)),
            self.picture: gr.update(value=str(pictures[0]) if pictures else None, visible=bool(pictures)),
            self.attempt: gr.update(visible=run.adapter() is not None),
            self.begin: gr.update(interactive=not run.running),
            self.halt: gr.update(interactive=run.running),
            self.resume: gr.update(interactive=begun and not run.running),
            self.timer: gr.Timer(active=run.running),
        }

    def attempted(self, visit: Visit) -> tuple[str, str]:
        """Give the visitor's method the trained adapter; return the words for Compare and for this tab."""
        folder, recipe = self.run.adapter(), self.run.recipe
        try:
            if folder is None or recipe is None:
                raise EditkitError("There is nothing trained yet; wait for the first validation or the end.")
            name = f"{folder.parent.name}-{folder.name}-{self.run.step()}"
            self.device.editor_of(visit).load_adapter(folder, recipe.method, name)
        except EditkitError as error:
            return "", theme.problem(str(error))
        trained = f"{folder.parent.name} ({folder.name})"
        words = f"{recipe.method} uses {trained}, trained here; reload the page to undo."
        return theme.status("", notes=[words]), theme.status("The adapter is active in Compare.")

    def _words(self) -> str:
        run = self.run
        if run.recipe is None:
            return theme.status("No run yet.")
        if problem := run.problem():
            return theme.problem(problem)
        done, name = run.step(), run.output.name if run.output else ""
        if run.running:
            words = f"step {done} of {run.steps}" if done else "starting"
            return theme.status(f"{name}: {words}", done / run.steps)
        return theme.status(
            f"{name}: {'done' if done >= run.steps else 'stopped'} at step {done}.", done / run.steps
        )

    def _recipe(self, name: str) -> training.Recipe:
        if name not in self.recipes:
            raise EditkitError(f"There is no config {name!r} for this backbone; choose one from the list.")
        return self.recipes[name]


def frame(rows: list[dict[str, Any]]) -> Any:
    """Turn rows into a data frame for Gradio's plots."""
    import pandas as pd

    return pd.DataFrame(rows)
