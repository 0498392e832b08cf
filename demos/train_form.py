"""The fields and results of the Train tab."""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr

from demos import theme
from demos.device import USUAL
from demos.train_data import TrainData
from demos.training import Recipe

EMPTY = "Choose what to train and press Start; loss and held-out edits appear here while it runs."


class TrainForm:
    """The components.

    Args:
        recipes: configs that can be trained, by name.
        paths: whether visitors may name data by a path of this machine.
    """

    def __init__(self, recipes: Mapping[str, Recipe], paths: bool) -> None:
        self.recipes = recipes
        with gr.Row(elem_classes="thirds"):
            with gr.Column(min_width=300):
                self._asking(paths)
            with gr.Column(min_width=300):
                self._watching()
            with gr.Column(min_width=300):
                self._found()

    def _asking(self, paths: bool) -> None:
        usual = [name for name in self.recipes if name.endswith(f"/{USUAL}-lora.yaml")]
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
            show_label=False,  # it would lie over the sheet's first line
            buttons=["fullscreen"],
            format="png",
            interactive=False,
            visible=False,
            elem_id="train-picture",
        )
        self.findings = gr.HTML(elem_id="train-findings")
        self.sheet = gr.Image(
            label="Pairs to look at: source, answer",
            show_label=False,
            buttons=["fullscreen"],
            format="png",
            interactive=False,
            visible=False,
            elem_id="train-sheet",
        )
        self.plan = gr.HTML(elem_id="train-plan-text")

    def description(self, name: str | None) -> str:
        """Show the description of a config."""
        recipe = self.recipes.get(name or "")
        return theme.hint(recipe.words if recipe else "No config trains this backbone.")
