"""The fields of the Compare tab: picture, instruction, methods, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from demos import option_panels, settings, theme, uploads, widgets
from demos.instruction import Instruction
from demos.jobs import QUICK, Controls
from demos.pictures import PAINT
from demos.samples import SAMPLES, SampleGallery
from editkit import api


class Form:
    """The components.

    Args:
        trusted: names of further adapters that visitors may choose.
        base: of the page's backbone.
    """

    def __init__(self, trusted: Mapping[str, str], base: str | None) -> None:
        self.methods = {method.name: method for method in api.methods()}
        self.samples = SampleGallery("compare", SAMPLES)
        with gr.Row(elem_classes="thirds"):
            with gr.Column(min_width=300):
                self._picture()
            with gr.Column(min_width=300):
                self._asking()
            with gr.Column(min_width=300):
                self._settings(trusted, base)

    def _picture(self) -> None:
        self.painting = gr.ImageEditor(
            type="pil",
            image_mode="RGBA",
            format="png",
            transforms=(),
            layers=False,
            brush=gr.Brush(colors=[PAINT], color_mode="fixed", default_size=12),
            label="Picture",
            sources=("upload", "webcam", "clipboard"),
            height=390,
            elem_id="compare-picture",
            placeholder="Drop a picture here, paste one, or click to upload",
        )
        # The editor tells of an upload again whenever it was read, and forgets paint that comes meanwhile. So
        # the page's script hears of it, and presses this button once for each new picture.
        self.new_picture = gr.Button(visible="hidden", elem_id="compare-picture-new")
        self.painting.upload(None, None, None, js="() => window.newPicture()", api_visibility="private")
        self.picture_said = uploads.line("compare")
        gr.HTML(theme.hint("Paint on the picture to keep the edit inside the paint."))
        # Gradio's editor sends a layer that it is given, but does not show it.
        self.sample_paint = gr.Image(
            label="This sample's paint; your own replaces it",
            format="png",
            interactive=False,
            visible=False,
            height=170,
            buttons=[],
            elem_id="compare-sample-paint",
        )

    def _asking(self) -> None:
        self.instruction = Instruction("compare", "Instruction", SAMPLES[0].instruction)
        self.chosen = gr.CheckboxGroup(
            [(f"{name}: {method.purpose or method.summary}", name) for name, method in self.methods.items()],
            value=list(self.methods),
            label="Methods",
            elem_id="compare-methods",
        )
        self.controls = Controls("compare", "Compare", "compare-results")

    def _settings(self, trusted: Mapping[str, str], base: str | None) -> None:
        with gr.Row():
            self.seed = gr.Number(
                value=0,
                precision=0,
                minimum=0,
                label="Seed, the same for all",
                min_width=120,
                elem_id="compare-seed",
            )
            self.randomise = gr.Checkbox(value=False, label="New seed each time", min_width=120)
        with gr.Accordion("More for all methods", open=False, elem_id="compare-more"):
            self.steps = widgets.number_field("Steps", info="Empty: each method's own number.")
            self.preserve = gr.Checkbox(
                value=False,
                label="Keep pixels outside the change identical",
                info="With paint on the picture they always are.",
            )
            self.references = gr.File(
                file_count="multiple",
                file_types=["image"],
                label="References, for methods that take them",
                height=120,
                elem_id="compare-references",
            )
            self.adapters = gr.Dropdown(
                list(trusted),
                value=[],
                multiselect=True,
                label="Further adapters",
                info="Worn by every method besides its own.",
                visible=bool(trusted),
                elem_id="compare-adapters",
            )
            self.strength = widgets.number_field(
                "Their strength", info="Empty: 1.", visible=bool(trusted), elem_id="compare-strength"
            )
        self.drawers = {name: option_panels.Drawer(method, base) for name, method in self.methods.items()}

    def named(self) -> dict[str, Any]:
        """Return the controls of all drawers, by their names in the API."""
        return {key: control for drawer in self.drawers.values() for key, control in drawer.named().items()}

    def inputs(self) -> list[Any]:
        """List the other components that a comparison reads, in the order of `Compare.compare`."""
        asked = [self.painting, self.instruction.box, self.chosen, self.references]
        return [*asked, self.seed, self.randomise, self.steps, self.preserve, self.adapters, self.strength]

    def wire(self) -> None:
        """Connect the samples."""
        outputs = [self.painting, self.instruction.box, self.chosen, self.references, self.sample_paint]
        self.samples.wire(self._sampled, outputs, "sample")
        # An upload is told of samples, too.
        for other in (self.new_picture.click, self.painting.clear):
            other(_with_layers, [self.painting], [self.sample_paint], preprocess=False, **QUICK)

    def _sampled(self, number: int) -> list[Any]:
        sample = SAMPLES[number]
        references = [str(sample.reference)] if sample.reference else None
        paint = gr.update(value=str(sample.shown), visible=sample.painted_on)
        return [sample.painted(), sample.instruction, list(sample.methods or self.methods), references, paint]

    def settable(self) -> dict[str, Any]:
        """Return the controls that a link or a recipe sets, by their names there."""
        return {
            "instruction": self.instruction.box,
            "methods": self.chosen,
            "seed": self.seed,
            "steps": self.steps,
            "preserve": self.preserve,
            **self.named(),
        }

    def outputs(self) -> list[Any]:
        """List what `filled` changes."""
        other = [self.controls.status, self.randomise, self.painting, self.sample_paint]
        return [*other, *self.settable().values()]

    def filled(self, asked: Mapping[str, str], words: str, picture: str | None = None) -> dict[Any, Any]:
        """Fill in settings; those that are not named get their defaults.

        Args:
            asked: values as text, by name.
            words: said of them.
            picture: file of the picture to be edited; None keeps the one there is.
        """
        changes, notes = settings.applied(self.settable(), asked)
        if picture:
            changes[self.painting] = {"background": picture, "layers": [], "composite": picture}
            changes[self.sample_paint] = gr.update(visible=False)
        return {
            **changes,
            self.randomise: False,
            self.controls.status: theme.status(words, notes=notes),
        }


def _with_layers(payload: dict[str, Any] | None) -> Any:
    """Show a sample's paint as long as the editor sends it."""
    return gr.update(visible=bool(payload and payload.get("layers")))
