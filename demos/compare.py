"""The Compare tab: one picture and one instruction through the methods, on one canvas and seed."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demos import looks, widgets
from demos.device import QUEUE, Device, Step, StoppedError, Visit, ask_to_stop
from demos.pictures import PAINT, enlarged, opened, painting
from editkit import api, comparison, images
from editkit.api import Editor
from editkit.errors import EditkitError
from editkit.method import Method
from editkit.types import EditRequest

SAMPLES = Path(__file__).parent / "samples"
EXAMPLES = (
    ("three_shapes.png", "make the orange square green"),
    ("red_circle.png", "make the red circle blue"),
    ("lettered.png", "remove the blue triangle"),
)
SEEDS = 2**31
BEFORE_AFTER, DIFFERENCE = "Before and after", "Difference"
EMPTY = "Choose a sample or upload a picture, say what to change, and press Compare."


@dataclass(frozen=True, kw_only=True)
class Card:
    """The components that show one method's result."""

    whole: Any
    slider: Any
    difference: Any
    facts: Any
    recipe: Any
    download: Any

    def waiting(self, shown: bool) -> dict[Any, Any]:
        """Nothing yet."""
        return {
            self.whole: gr.update(visible=shown),
            self.slider: None,
            self.difference: None,
            self.facts: looks.hint("Waiting for its turn."),
            self.recipe: gr.update(value="", visible=False),
            self.download: gr.update(value=None, visible=False),
        }

    def result(self, source: Image.Image, entry: comparison.Entry, visit: Visit) -> dict[Any, Any]:
        """What became of it."""
        result = entry.result
        if result.image is None:
            return {self.slider: None, self.facts: looks.problem(str(result.error))}
        after = result.image.convert("RGB")
        file = visit.place() / f"{_slug(str(result.recipe['instruction']))}-{result.method}-{result.seed}.png"
        images.save(after, file, result.recipe)
        facts = (
            f"{entry.seconds:.2f} s",
            f"{result.recipe['steps']} steps",
            f"{entry.tokens} tokens",
            f"changed {entry.changed:.0%}",
            f"rest moved {entry.moved:.3f}",
        )
        return {
            self.slider: (enlarged(source), enlarged(after)),
            self.difference: enlarged(comparison.difference(source, after)),
            self.facts: looks.chips(facts),
            self.recipe: gr.update(value=json.dumps(dict(result.recipe), indent=2), visible=True),
            self.download: gr.update(value=str(file), visible=True),
        }


class Compare:
    """The tab's components, and what they do.

    Args:
        device: runs the edits.
        visit: state with a `Visit`.
        pixels: how many a picture may have.
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
        self.status = gr.HTML(looks.status("Ready."), elem_id="compare-status")
        self.view = gr.Radio(
            [BEFORE_AFTER, DIFFERENCE],
            value=BEFORE_AFTER,
            label="Show results as",
            visible=False,
            elem_id="compare-view",
        )
        self.empty = gr.HTML(looks.empty("No results yet", EMPTY))
        with gr.Row(elem_classes="cards"):
            self.cards = {name: _card(method) for name, method in self.methods.items()}
        self._wire()

    def _picture(self) -> None:
        self.painting = gr.ImageEditor(
            type="pil",
            image_mode="RGBA",
            format="png",
            transforms=(),
            layers=False,
            brush=gr.Brush(colors=[PAINT], color_mode="fixed", default_size=12),
            label="Picture. Paint on it to keep the edit inside the paint.",
            sources=("upload", "webcam", "clipboard"),
            height=390,
            elem_id="compare-picture",
            placeholder="Drop a picture here, paste one, or click to upload",
        )

    def _asking(self) -> None:
        self.instruction = gr.Textbox(
            label="Instruction",
            placeholder="make the orange square green",
            lines=2,
            elem_id="compare-instruction",
        )
        self.chosen = gr.CheckboxGroup(
            [(f"{name}: {method.summary}", name) for name, method in self.methods.items()],
            value=list(self.methods),
            label="Methods",
            elem_id="compare-methods",
        )
        with gr.Row(elem_classes="actions"):
            self.go = gr.Button("Compare", variant="primary", scale=3, elem_id="compare-go")
            self.halt = gr.Button("Stop", variant="stop", interactive=False, scale=1, elem_id="compare-stop")
        gr.Examples(
            [[str(SAMPLES / name), instruction] for name, instruction in EXAMPLES],
            inputs=[self.painting, self.instruction],
            label="Samples",
            api_name="sample",
        )

    def _settings(self) -> None:
        with gr.Row():
            self.seed = gr.Number(
                value=0,
                precision=0,
                minimum=0,
                label="Seed, the same for all",
                elem_id="compare-seed",
                min_width=120,
            )
            self.randomise = gr.Checkbox(value=False, label="New seed each time", min_width=120)
        with gr.Accordion("More for all methods", open=False):
            self.steps = gr.Number(
                value=None, precision=0, minimum=1, label="Steps", info="Empty: each method's own number."
            )
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
        self.guidance: dict[str, Any] = {}
        self.tasks: dict[str, Any] = {}
        self.options: dict[str, dict[str, Any]] = {}
        for name, method in self.methods.items():
            with gr.Accordion(f"Options of {name}", open=False):
                self._drawer(name, method)

    def _drawer(self, name: str, method: Method) -> None:
        """What the method can be told: everything from its record."""
        gr.HTML(looks.hint(method.paper))
        self.guidance[name] = gr.Number(value=None, minimum=0, label="guidance", info="Empty: its own.")
        if method.tasks:
            listed = [
                ("fitting what is given", ""),
                *((f"{t.name}: {t.summary}", t.name) for t in method.tasks),
            ]
            self.tasks[name] = gr.Dropdown(listed, value="", label="task")
        self.options[name] = widgets.controls(method.config)

    def _wire(self) -> None:
        named: dict[str, Any] = {f"{name}_guidance": control for name, control in self.guidance.items()}
        named |= {f"{name}_task": control for name, control in self.tasks.items()}
        for name, controls in self.options.items():
            named |= {f"{name}_{key}": control for key, control in controls.items()}
        parts = [part for card in self.cards.values() for part in vars(card).values()]
        self.outputs = [self.status, self.seed, self.go, self.halt, self.view, self.empty, *parts]
        asked = gr.on(
            [self.go.click, self.instruction.submit],
            begin,
            [self.visit],
            [self.visit, self.status, self.go, self.halt],
            queue=False,
            show_progress="hidden",
            api_name="compare_begin",
        )
        running = asked.then(
            self.compare,
            [
                *(self.painting, self.instruction, self.chosen, self.references, self.seed, self.randomise),
                *(self.steps, self.preserve, self.visit),
            ],
            self.outputs,
            inputs_kwargs=named,
            preprocess=False,
            concurrency_id=QUEUE,
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=self.status,
            api_name="compare",
        )
        running.failure(
            failed, None, [self.status, self.go, self.halt], queue=False, api_name="compare_failed"
        )
        self.halt.click(
            stop, [self.visit], [self.status], queue=False, show_progress="hidden", api_name="stop"
        )
        pictures = [part for card in self.cards.values() for part in (card.slider, card.difference)]
        self.view.change(
            self.shown, [self.view], pictures, queue=False, show_progress="hidden", api_name="view"
        )

    def shown(self, view: str) -> list[Any]:
        """Sliders or differences."""
        return [gr.update(visible=view == each) for _ in self.cards for each in (BEFORE_AFTER, DIFFERENCE)]

    def compare(
        self,
        picture: dict[str, Any] | None,
        instruction: str,
        methods: list[str],
        references: list[dict[str, Any]] | None,
        seed: int,
        randomise: bool,
        steps: int | None,
        preserve: bool,
        visit: Visit,
        **told: Any,
    ) -> Iterator[dict[Any, Any]]:
        """Results as they come: the slider of each method, its figures and recipe."""
        finished = {self.go: gr.update(interactive=True), self.halt: gr.update(interactive=False)}
        try:
            painted = painting(self.pixels, picture, self.painting)
            source = painted.checked()
            seed = random.randrange(SEEDS) if randomise else int(seed or 0)
            asked = {"seed": seed, "steps": steps or None, "preserve": preserve or None, "mask": painted.mask}
            asked["references"] = tuple(opened(file["path"], self.pixels) for file in references or ())
            requests = self._requests(visit, source, instruction, methods, asked, told)
        except EditkitError as error:
            visit.stop = None
            yield {self.status: looks.problem(str(error)), **finished}
            return
        yield {
            self.seed: seed,
            self.status: looks.status("Starting.", 0),
            self.empty: gr.update(visible=False),
            self.view: gr.update(visible=True),
            self.go: gr.update(interactive=False),
            self.halt: gr.update(interactive=True),
            **{k: v for name, card in self.cards.items() for k, v in card.waiting(name in methods).items()},
        }
        yield from self._follow(visit, source, requests)
        yield finished

    def _requests(
        self,
        visit: Visit,
        source: Image.Image,
        instruction: str,
        methods: list[str],
        asked: Mapping[str, Any],
        told: Mapping[str, Any],
    ) -> list[tuple[Editor, EditRequest]]:
        """One request a method, with what its drawer says."""
        if not methods:
            raise EditkitError("No method is chosen; tick one at least.")
        if not instruction.strip():
            raise EditkitError(
                "The instruction is empty; say what to change, such as 'make the red circle blue'."
            )
        options = {
            name: widgets.values(
                self.methods[name].config,
                {key: told[f"{name}_{key}"] for key in self.options[name] if f"{name}_{key}" in told},
            )
            for name in methods
        }
        editor = self.device.editor_of(visit).configured(options)
        return [
            (
                editor,
                replace(
                    request,
                    guidance=told.get(f"{request.method}_guidance"),
                    task=told.get(f"{request.method}_task") or None,
                ),
            )
            for request in comparison.requests(editor, source, instruction, methods, **asked)
        ]

    def _follow(
        self, visit: Visit, source: Image.Image, requests: list[tuple[Editor, EditRequest]]
    ) -> Iterator[dict[Any, Any]]:
        """Steps, previews and results of the requests."""
        names = [request.method for _, request in requests]
        done, notes, start, share = 0, [], time.perf_counter(), 0.0

        def work(tell: Any, watch: Any) -> None:
            for entry in comparison.run(requests, watch):
                tell(entry)

        for event in self.device.stream(visit, work):
            spent = time.perf_counter() - start
            if isinstance(event, StoppedError):
                stopped = {self.cards[name].facts: looks.hint("Stopped.") for name in names[done:]}
                yield {self.status: looks.status("Stopped.", notes=notes), **stopped}
                return
            if isinstance(event, EditkitError):
                yield {self.status: looks.problem(str(event))}
                return
            if isinstance(event, Step):
                share = (done + event.step / event.steps) / len(names)
                words = (
                    f"{names[done]}: step {event.step} of {event.steps}, {looks.left(spent / share - spent)}"
                )
                card = self.cards[names[done]]
                changes: dict[Any, Any] = {self.status: looks.status(words, share, notes)}
                if event.pictures:
                    changes[card.slider] = enlarged(source), enlarged(event.pictures[0].convert("RGB"))
                    changes[card.facts] = looks.hint("A preview: where the edit points now.")
                yield changes
                continue
            notes += [f"{note}" for note in event.result.notes]
            changes = self.cards[names[done]].result(source, event, visit)
            done += 1
            words = (
                f"{done} of {len(names)} done."
                if done < len(names)
                else f"Done in {spent:.1f} s: {len(names)} on one canvas and seed."
            )
            yield {self.status: looks.status(words, done / len(names), notes), **changes}


def begin(visit: Visit) -> tuple[Any, ...]:
    """Something was asked for, and may have to wait for its turn."""
    visit.stop = threading.Event()
    waiting = looks.status("Waiting for the device.")
    return visit, waiting, gr.update(interactive=False), gr.update(interactive=True)


def stop(visit: Visit) -> str:
    """Ends what runs or waits for the visitor within one step."""
    return looks.status("Stopping." if ask_to_stop(visit) else "Nothing is running.")


def failed() -> tuple[Any, ...]:
    """What nobody foresaw, which is in the server's log."""
    problem = looks.problem("Something went wrong here that is not your doing; the server's log says what.")
    return problem, gr.update(interactive=True), gr.update(interactive=False)


def _card(method: Method) -> Card:
    name = method.name
    with gr.Column(visible=False, min_width=280, elem_classes="card", elem_id=f"card-{name}") as whole:
        gr.HTML(looks.heading(name, method.summary))
        slider = gr.ImageSlider(
            label=f"{name}: before and after", format="png", type="pil", interactive=False, max_height=420
        )
        difference = gr.Image(
            label=f"{name}: difference, four times as strong", format="png", interactive=False, visible=False
        )
        facts = gr.HTML()
        recipe = gr.Code(
            label=f"{name}: recipe", language="json", visible=False, max_lines=12, interactive=False
        )
        download = gr.DownloadButton("Download PNG with its recipe", visible=False, size="sm")
    return Card(
        whole=whole, slider=slider, difference=difference, facts=facts, recipe=recipe, download=download
    )


def _slug(text: str) -> str:
    """Words of an instruction as a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-") or "edit"
