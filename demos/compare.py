"""The Compare tab: several methods on one picture and one instruction, with one seed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
from PIL import Image

from demos import option_panels, theme, uploads, views, widgets
from demos.compare_form import Form
from demos.device import Loaded, Loading, Step, load_weights
from demos.pictures import Painted, opened, painting
from demos.place import Place
from demos.result_cards import card
from demos.visit import Visit
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.inference import comparison
from editkit.inference.inputs import check_seed
from editkit.types import EditRequest

SEEDS = 2**31
EMPTY = "Choose a sample or upload a picture, say what to change, and press Compare."
Requests = list[tuple[Editor, EditRequest]]


class Compare:
    """The components of the tab and their handlers."""

    def __init__(self, place: Place) -> None:
        self.place, self.device = place, place.device
        self.form = Form(place.adapters, place.base)
        self.controls, self.instruction = self.form.controls, self.form.instruction
        self.controls.status.render()
        self.adapter_note = gr.HTML(elem_id="compare-adapter")
        self.view = views.Chooser("compare", "compare-results", visible=False)
        self.empty = gr.HTML(theme.empty("No results yet", EMPTY), label="hint")
        with gr.Row(elem_classes=["cards", "viewers"], elem_id="compare-results"):
            self.cards = {name: card(method) for name, method in self.form.methods.items()}
        self._wire()

    def _wire(self) -> None:
        parts = [part for each in self.cards.values() for part in each.parts()]
        self.controls.wire(
            [self.controls.go.click, self.instruction.box.submit],
            self.compare,
            self.place.visit,
            self.form.inputs(),
            [self.form.seed, self.view.whole, self.empty, self.instruction.problem, *parts],
            self.form.named(),
        )
        self.controls.stoppable(self.place.visit)
        self.view.decide([each.views for each in self.cards.values()])
        self.form.wire()
        uploads.tell(
            self.place,
            self.form.painting,
            self._painted,
            self.form.picture_said,
            "compare",
            self.form.new_picture.click,
        )

    def _painted(self, picture: dict[str, Any] | None) -> Painted:
        return painting(self.place.pixels, picture, self.form.painting)

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
        adapters: list[str] | None = None,
        strength: float | None = None,
        **options: Any,
    ) -> Iterator[dict[Any, Any]]:
        """Results as they come: the pictures of each method, its figures and recipe."""
        if missing := self.instruction.missing(instruction):
            yield self.controls.idle() | missing
            return
        try:
            painted = self._painted(picture)
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
            extra = [opened(file["path"], self.place.pixels) for file in references or ()]
            asked["references"] = tuple(each.image for each in extra)
            notes = [note for each in (painted, *extra) for note in each.notes]
            editor = self.device.editor_of(visit)
            notes += self.device.remarks(source)
            requests = comparison.requests(editor, source, instruction, methods, **asked)
            lora = self._lora(adapters or [], strength)
            configured = option_panels.apply(self.form.drawers, editor, requests, options, lora)
        except EditkitError as error:
            yield self.controls.refused(error)
            return
        waiting = [each.waiting(name in methods) for name, each in self.cards.items()]
        yield {
            self.form.seed: seed,
            self.controls.status: theme.status("Starting.", 0, notes),
            self.empty: gr.update(visible=False),
            **self.instruction.fine(),
            self.view.whole: gr.update(visible=True),
            **{part: change for changes in waiting for part, change in changes.items()},
        }
        yield from self._follow(visit, source, configured, notes)

    def _lora(self, names: list[str], strength: float | str | None) -> dict[str, float]:
        """Return the chosen further adapters, with their scale.

        Raises:
            EditkitError: for one that the page does not offer, or a strength that is no number.
        """
        if unknown := [name for name in names if name not in self.place.adapters]:
            raise EditkitError(f"The adapter {unknown[0]} is not offered on this page; choose from the list.")
        scale = widgets.number("strength", strength)
        return {self.place.adapters[name]: 1.0 if scale is None else scale for name in names}

    def _follow(
        self, visit: Visit, source: Image.Image, requests: Requests, notes: list[str]
    ) -> Iterator[dict[Any, Any]]:
        """Steps, previews and results of the requests, with notes on their pictures."""
        status, names = self.controls.status, [request.method for _, request in requests]
        visit.results = {}
        start, loading = time.perf_counter(), 0.0

        def work(tell: Any, watch: Any) -> None:
            for editor, request in requests:
                load_weights(editor, request, tell)
                for entry in comparison.run_requests([(editor, request)], watch):
                    tell(entry)

        for event in self.controls.follow(self.device, visit, work):
            spent, done = time.perf_counter() - start - loading, len(visit.results)
            if isinstance(event, dict):
                stopped = [self.cards[name].facts for name in names[done:]]
                yield event | {facts: theme.hint("Not finished.") for facts in stopped}
            elif isinstance(event, Loading):
                yield {status: theme.status(f"{names[done]}: loading its weights.", done / len(names), notes)}
            elif isinstance(event, Loaded):
                loading += event.seconds
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
                notes += (*event.result.notes, *self.place.kept.add(visit, source, event.result))
                failed = sum(result.image is None for _, result in visit.results.values())
                words = f"{done + 1 - failed} of {len(names)} done in {spent:.1f} s, with one seed."
                words += theme.loading(loading)
                words += f" {failed} failed; see below." if failed else ""
                changes = self.cards[names[done]].result(source, event, visit)
                yield {status: theme.status(words, (done + 1) / len(names), notes), **changes}
