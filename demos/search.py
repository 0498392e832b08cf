"""The Seed search tab: previews of several seeds, the judge's replies, and finishing a seed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image

from demos import theme, uploads, verdicts, views, widgets
from demos.device import Loaded, Loading, Step, load_weights
from demos.jobs import QUICK
from demos.pictures import photo, shown
from demos.place import Place
from demos.result_cards import saved
from demos.search_form import MOST, SearchForm
from demos.visit import Visit
from editkit.errors import EditkitError
from editkit.inference import search_settings
from editkit.inference.speed import EXACT
from editkit.types import EditRequest, EditResult

EMPTY = "Give a picture and an instruction, and press Search: the judge compares a preview of each seed."


class Search:
    """The components of the tab and their handlers."""

    def __init__(self, place: Place) -> None:
        self.place, self.device, self.visit, self.pixels = place, place.device, place.visit, place.pixels
        with gr.Row(elem_classes="thirds"):
            with gr.Column(min_width=300):
                self.form = SearchForm(place.base)
            with gr.Column(min_width=300):
                self._previews()
            with gr.Column(min_width=300):
                self._result()
        self.controls, self.instruction = self.form.controls, self.form.instruction
        self._wire()

    def _previews(self) -> None:
        self.form.controls.status.render()
        self.empty = gr.HTML(theme.empty("No previews yet", EMPTY))
        with gr.Column(visible=False) as self.found:
            self.gallery = gr.Gallery(
                label="Previews; choose one to finish it yourself",
                columns=2,
                height="auto",
                allow_preview=False,
                interactive=False,
                object_fit="contain",
                buttons=[],
                elem_id="search-previews",
            )
        self.finish = gr.Button("Finish the chosen seed", visible=False, elem_id="search-finish")
        self.picked = gr.Number(value=None, precision=0, label="Seed to finish", visible=False)

    def _result(self) -> None:
        with gr.Column(visible=False, elem_classes="viewers", elem_id="search-edited") as self.edited:
            self.view = views.Chooser("search", "search-edited")
            self.shown = views.Views()
            self.facts = gr.HTML()
            self.download = gr.DownloadButton("Download", size="sm")
        self.reasons = gr.HTML(elem_id="search-reasons")

    def _wire(self) -> None:
        outputs = [
            *(self.empty, self.found, self.gallery, self.finish, self.picked),
            *(self.edited, *self.shown.parts, self.facts, self.download, self.reasons),
            self.instruction.problem,
        ]
        self.controls.wire(
            [self.controls.go.click, self.instruction.box.submit],
            self.search,
            self.visit,
            self.form.inputs(),
            outputs,
        )
        self.controls.wire(
            [self.finish.click],
            self.finished,
            self.visit,
            [self.picked],
            outputs,
            name="search_finish",
        )
        self.controls.stoppable(self.visit)
        read = partial(photo, self.pixels)
        uploads.tell(self.place, self.form.picture, read, self.form.picture_said, "search")
        self.view.decide([self.shown])
        self.form.speed.follow(self.form.method, "search")
        self.gallery.select(
            pick,
            [self.visit],
            [self.picked, self.finish],
            api_name="search_pick",
            **QUICK,
        )

    def search(
        self,
        visit: Visit,
        picture: dict[str, Any] | None,
        instruction: str,
        method: str,
        seeds: int,
        judge: str,
        mode: str,
        seed: int | None,
        steps: int | None = None,
        speed: str | None = None,
    ) -> Iterator[dict[Any, Any]]:
        """Previews as they come, then the judge's comparisons and the winner."""
        if missing := self.instruction.missing(instruction):
            yield self.controls.idle() | missing
            return
        try:
            given = photo(self.pixels, picture)
            source = given.checked()
            if not isinstance(seeds, int) or not 2 <= seeds <= MOST:
                raise EditkitError(f"{seeds} seeds are not allowed; give 2 to {MOST}.")
            steps = widgets.number("steps", steps, whole=True)
            asked = search_settings.build({"seeds": seeds, "judge": judge, "mode": mode})
        except EditkitError as error:
            yield self.controls.refused(error)
            return
        notes = (*given.notes, *self.device.remarks(source))
        visit.search = None  # the previews of the last search go with what follows
        request = EditRequest(
            image=source,
            instruction=instruction,
            method=method,
            seed=seed or 0,
            steps=steps,
            speed=speed or EXACT,
            search=asked,
        )
        yield {
            self.controls.status: theme.status("Starting.", 0, notes),
            self.empty: gr.update(visible=False),
            self.found: gr.update(visible=True),
            self.gallery: [],
            self.finish: gr.update(visible=False),
            self.edited: gr.update(visible=False),
            self.reasons: "",
            **self.instruction.fine(),
        }
        yield from self._follow(visit, source, request, notes)

    def finished(self, visit: Visit, seed: int | None) -> Iterator[dict[Any, Any]]:
        """Finish the edit of a seed that the judge did not choose."""
        if visit.search is None or seed is None:
            yield self.controls.refused(EditkitError("Choose one of the previews first."))
            return
        request, _ = visit.search
        assert isinstance(request.image, Image.Image)
        yield from self._follow(visit, request.image, replace(request, seed=seed, search=None))

    def _follow(
        self, visit: Visit, source: Image.Image, request: EditRequest, notes: Sequence[str] = ()
    ) -> Iterator[dict[Any, Any]]:
        editor = self.device.editor_of(visit)

        def work(tell: Any, watch: Any) -> None:
            load_weights(editor, request, tell)
            (result,) = editor.edit_many([request], watch=watch)
            if result.error:
                raise EditkitError(result.error)
            tell(result)

        loading, pointed = 0.0, False
        for event in self.controls.follow(self.device, visit, work):
            if isinstance(event, dict):
                yield event | ({self.facts: theme.hint("Not finished.")} if pointed else {})
            elif isinstance(event, Loading):
                yield {self.controls.status: theme.status("Loading weights.", 0, notes)}
            elif isinstance(event, Loaded):
                loading = event.seconds
            elif isinstance(event, Step):
                changes = self._step(event, source, visit, notes)
                pointed = pointed or self.facts in changes
                yield changes
            else:
                kept = self.place.kept.add(visit, source, event)
                yield self._done(event, source, request, visit) | {
                    self.controls.status: theme.status(
                        f"Done: seed {event.seed}.{theme.loading(loading)}", 1, (*event.notes, *kept)
                    )
                }

    def _step(self, event: Step, source: Image.Image, visit: Visit, notes: Sequence[str]) -> dict[Any, Any]:
        many = len(event.seeds) > 1
        who = f"Previews of {len(event.seeds)} seeds" if many else f"Seed {event.seeds[0]}"
        words = f"{who}: step {event.step} of {event.steps}"
        changes: dict[Any, Any] = {self.controls.status: theme.status(words, event.step / event.steps, notes)}
        if event.pictures and many:
            previews = zip(event.seeds, event.pictures, strict=True)
            changes[self.gallery] = [(shown(each, visit), f"seed {seed}") for seed, each in previews]
        elif event.pictures:
            changes[self.edited] = gr.update(visible=True)
            changes |= self.shown.pointed(source, event.pictures[0], visit)
            # What stood here belongs to an earlier result.
            changes[self.facts] = theme.hint("A preview: where the edit points now.")
            changes[self.download] = gr.update(visible=False)
        return changes

    def _done(
        self, result: EditResult, source: Image.Image, request: EditRequest, visit: Visit
    ) -> dict[Any, Any]:
        assert result.image is not None
        changes: dict[Any, Any] = {
            self.edited: gr.update(visible=True),
            **self.shown.done(source, result.image, visit),
            self.facts: theme.chips(
                [
                    f"seed {result.seed}",
                    f"{sum(result.timings.values()):.2f} s",
                    f"{result.recipe['steps']} steps",
                ]
            ),
            self.download: gr.update(value=saved(result, visit), visible=True),
        }
        if report := result.search:
            visit.search = request, dict(report.previews)
            changes[self.gallery] = [
                (shown(each, visit), f"seed {seed}, {verdicts.place(report, seed)}")
                for seed, each in report.previews.items()
            ]
            changes[self.reasons] = verdicts.table(report)
        return changes


def pick(visit: Visit, chosen: gr.SelectData) -> tuple[Any, Any]:
    """Return the seed of the chosen preview, and show the button that finishes it."""
    seeds = list(visit.search[1]) if visit.search else []
    if not 0 <= chosen.index < len(seeds):
        return None, gr.update(visible=False)
    seed = seeds[chosen.index]
    return seed, gr.update(value=f"Finish seed {seed}", visible=True)
