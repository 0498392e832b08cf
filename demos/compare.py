"""The Compare tab: several methods on one picture and one instruction, with one seed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
from PIL import Image

from demos import option_panels, theme, views, widgets
from demos.device import Device, Step, Visit
from demos.instruction import Instruction
from demos.jobs import QUICK, Controls
from demos.pictures import PAINT, SAMPLES, opened, painting
from demos.result_cards import card
from editkit import api
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.inference import comparison
from editkit.inference.inputs import check_seed
from editkit.types import EditRequest

EXAMPLES = (
    ("three_shapes.png", "make the orange square green"),
    ("red_circle.png", "make the red circle blue"),
    ("lettered.png", "remove the blue triangle"),
    ("two_letters.png", "change the letter T to K"),
    ("night_sky.png", "redraw it as outlines"),
    ("striped.png", "a red circle in the top left on a white background in this style"),
    ("character.png", "the same character in the bottom left on a cyan background"),
    ("triangle_and_ring.png", "add a star"),
)
SEEDS = 2**31
EMPTY = "Choose a sample or upload a picture, say what to change, and press Compare."


class Compare:
    """The components of the tab and their handlers.

    Args:
        device: runs the edits.
        visit: state with a `Visit`.
        pixels: largest number of pixels of a picture.
    """

    def __init__(self, device: Device, visit: Any, pixels: int) -> None:
        self.device, self.visit, self.pixels = device, visit, pixels
        self.methods = {method.name: method for method in api.methods()}
        with gr.Row(elem_classes="thirds"):
            with gr.Column(min_width=300):
                self._picture()
            with gr.Column(min_width=300):
                self._asking()
            with gr.Column(min_width=300):
                self._settings()
        self.samples = gr.Gallery(
            [(str(SAMPLES / name), instruction) for name, instruction in EXAMPLES],
            label="Samples",
            columns=len(EXAMPLES),
            height="auto",
            allow_preview=False,
            interactive=False,
            buttons=[],
            object_fit="contain",
            elem_id="compare-samples",
        )
        self.controls.status.render()
        self.adapter_note = gr.HTML(elem_id="compare-adapter")
        self.view = views.chooser("compare", visible=False)
        self.empty = gr.HTML(theme.empty("No results yet", EMPTY))
        with gr.Row(elem_classes="cards", elem_id="compare-results"):
            self.cards = {name: card(method) for name, method in self.methods.items()}
        self._wire()

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
        gr.HTML(theme.hint("Paint on the picture to keep the edit inside the paint."))

    def _asking(self) -> None:
        self.instruction = Instruction("compare", "Instruction", EXAMPLES[0][1])
        self.chosen = gr.CheckboxGroup(
            [(f"{name}: {method.summary}", name) for name, method in self.methods.items()],
            value=list(self.methods),
            label="Methods",
            elem_id="compare-methods",
        )
        self.controls = Controls("compare", "Compare", "compare-results")

    def _settings(self) -> None:
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
            )
        self.drawers = {name: option_panels.Drawer(method) for name, method in self.methods.items()}

    def _wire(self) -> None:
        parts = [part for each in self.cards.values() for part in each.parts()]
        asked = [self.painting, self.instruction.box, self.chosen, self.references]
        self.controls.wire(
            [self.controls.go.click, self.instruction.box.submit],
            self.compare,
            self.visit,
            [*asked, self.seed, self.randomise, self.steps, self.preserve],
            [self.seed, self.view, self.empty, self.instruction.problem, *parts],
            {key: control for drawer in self.drawers.values() for key, control in drawer.named().items()},
        )
        self.controls.stoppable(self.visit)
        views.chosen(self.view, [each.views for each in self.cards.values()], "compare")
        self.samples.select(sample, None, [self.painting, self.instruction.box], api_name="sample", **QUICK)

    def compare(
        self,
        visit: Visit,
        picture: dict[str, Any] | None,
        instruction: str,
        methods: list[str],
        references: list[dict[str, Any]] | None = None,
        seed: int = 0,
        randomise: bool = False,
        steps: int | None = None,
        preserve: bool = False,
        **options: Any,
    ) -> Iterator[dict[Any, Any]]:
        """Results as they come: the pictures of each method, its figures and recipe."""
        if missing := self.instruction.missing(instruction):
            yield self.controls.idle(visit) | missing
            return
        try:
            painted = painting(self.pixels, picture, self.painting)
            source = painted.checked()
            if not methods:
                raise EditkitError("No method is chosen; choose at least one.")
            seed = random.randrange(SEEDS) if randomise else seed or 0
            check_seed(seed)  # before the page shows it
            asked: dict[str, Any] = {
                "seed": seed,
                "steps": widgets.number("steps", steps, whole=True),
                "preserve": preserve or None,
                "mask": painted.mask,
            }
            extra = [opened(file["path"], self.pixels) for file in references or ()]
            asked["references"] = tuple(each.image for each in extra)
            notes = [note for each in (painted, *extra) for note in each.notes]
            editor = self.device.editor_of(visit)
            notes += self.device.remarks(source)
            requests = comparison.requests(editor, source, instruction, methods, **asked)
            configured = option_panels.apply(self.drawers, editor, requests, options)
        except EditkitError as error:
            yield self.controls.refused(visit, error)
            return
        waiting = [each.waiting(name in methods) for name, each in self.cards.items()]
        yield {
            self.seed: seed,
            self.controls.status: theme.status("Starting.", 0, notes),
            self.empty: gr.update(visible=False),
            **self.instruction.fine(),
            self.view: gr.update(visible=True),
            **{part: change for changes in waiting for part, change in changes.items()},
        }
        yield from self._follow(visit, source, configured, notes)

    def _follow(
        self,
        visit: Visit,
        source: Image.Image,
        requests: list[tuple[Editor, EditRequest]],
        notes: list[str],
    ) -> Iterator[dict[Any, Any]]:
        """Steps, previews and results of the requests, with notes on their pictures."""
        status, names = self.controls.status, [request.method for _, request in requests]
        visit.results = {}
        start = time.perf_counter()

        def work(tell: Any, watch: Any) -> None:
            for entry in comparison.run_requests(requests, watch):
                tell(entry)

        for event in self.controls.follow(self.device, visit, work):
            spent, done = time.perf_counter() - start, len(visit.results)
            if isinstance(event, dict):
                stopped = [self.cards[name].facts for name in names[done:]]
                yield event | {facts: theme.hint("Not finished.") for facts in stopped}
            elif isinstance(event, Step):
                share = (done + event.step / event.steps) / len(names)
                left = theme.left(spent / share - spent)
                words = f"{names[done]}: step {event.step} of {event.steps}, {left}"
                changes: dict[Any, Any] = {status: theme.status(words, share, notes)}
                if event.pictures:
                    changes |= self.cards[names[done]].preview(source, event.pictures[0], visit)
                yield changes
            else:
                visit.results[names[done]] = source, event.result
                notes += event.result.notes
                share = (done + 1) / len(names)
                failed = sum(result.image is None for _, result in visit.results.values())
                words = f"{done + 1 - failed} of {len(names)} done in {spent:.1f} s, with one seed."
                words += f" {failed} failed; see below." if failed else ""
                changes = self.cards[names[done]].result(source, event, visit)
                yield {status: theme.status(words, share, notes), **changes}


def sample(chosen: gr.SelectData) -> tuple[str, str]:
    """Return the picture and instruction of the chosen sample."""
    name, instruction = EXAMPLES[chosen.index]
    return str(SAMPLES / name), instruction
