"""The Session tab: edits in a row on the chosen result, with undo and a measure of drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from demos import theme, views
from demos.device import QUEUE, USUAL, Device, Step, Visit
from demos.history import History
from demos.instruction import Instruction
from demos.jobs import Controls
from demos.pictures import photo
from editkit import api
from editkit.errors import EditkitError
from editkit.sessions.session import Session
from editkit.types import EditRequest

START = "Upload a picture and press Start, or choose Go on in Session under a result of Compare."


class Turns:
    """The components of the tab and their handlers; `Compare` explains the arguments."""

    def __init__(self, device: Device, visit: Any, pixels: int) -> None:
        self.device, self.visit, self.pixels = device, visit, pixels
        with gr.Row(elem_classes="thirds"):
            with gr.Column(min_width=300):
                self._start()
            with gr.Column(min_width=300):
                self._now()
            with gr.Column(min_width=300, visible=False) as self.past:
                self.history = History()
        self._wire()

    def _start(self) -> None:
        self.picture = gr.Image(
            label="Start from",
            type="filepath",
            format="png",
            sources=["upload", "webcam", "clipboard"],
            height=200,
            elem_id="session-picture",
            placeholder="Drop a picture here, paste one, or click to upload",
        )
        self.begin = gr.Button("Start", elem_id="session-start")
        self.instruction = Instruction("session", "Next edit", "make the red circle blue")
        with gr.Row():
            self.method = gr.Dropdown(
                [each.name for each in api.methods()], value=USUAL, label="Method", min_width=120
            )
            self.seed = gr.Number(value=0, precision=0, minimum=0, label="Seed", min_width=120)
        self.preserve = gr.Checkbox(value=True, label="Keep pixels outside the change identical")
        self.controls = Controls("session", "Edit", "session-now")

    def _now(self) -> None:
        self.controls.status.render()
        self.empty = gr.HTML(theme.empty("No session yet", START))
        with gr.Column(visible=False, elem_id="session-now") as self.now:
            self.view = views.chooser("session")
            self.turn = views.Views()
            self.facts = gr.HTML(elem_id="session-facts")

    def _wire(self) -> None:
        self.outputs = [
            *(self.controls.status, self.empty, self.now, *self.turn.parts, self.facts, self.past),
            *self.history.outputs,
        ]
        asked = [self.instruction.box, self.method, self.seed, self.preserve]
        self.controls.wire(
            [self.controls.go.click, self.instruction.box.submit],
            self.edit,
            self.visit,
            asked,
            [*self.outputs[1:], self.instruction.box, self.instruction.problem],
        )
        self.controls.stoppable(self.visit)
        views.chosen(self.view, [self.turn], "session")
        calm: dict[str, Any] = {"concurrency_id": QUEUE, "concurrency_limit": 1, "show_progress": "minimal"}
        calm |= {"show_progress_on": self.controls.status, "preprocess": False}
        self.begin.click(
            self.start,
            [self.picture, self.visit],
            [self.visit, *self.outputs],
            api_name="session_start",
            **calm,
        )
        for button, act, name in (
            (self.history.undo, self._act(Session.undo, "Undone."), "undo"),
            (self.history.redo, self._act(Session.redo, "Redone."), "redo"),
            (self.history.anchor, self._act(Session.anchor, "Anchored on the original."), "anchor"),
            (self.history.export, self.exported, "export"),
        ):
            button.click(act, [self.visit], self.outputs, api_name=f"session_{name}", **calm)
        chosen = self.history.gallery.select
        chosen(self.branch, [self.visit], self.outputs, api_name="session_branch", **calm)

    def start(self, picture: dict[str, Any] | None, visit: Visit) -> dict[Any, Any]:
        """A session of one picture, which replaces the one before."""
        try:
            given = photo(self.pixels, picture)
            source = given.checked()
            notes = (*given.notes, *self.device.remarks(source))
            visit.session = self.device.editor_of(visit).session(source, folder=visit.new_folder())
        except EditkitError as error:
            return {self.visit: visit, self.controls.status: theme.problem(str(error))}
        return {self.visit: visit, **self.shown(visit, "Started; say what to change.", notes)}

    def take(self, visit: Visit, method: str) -> dict[Any, Any]:
        """Start a session with a result of Compare as its first turn."""
        try:
            if method not in visit.results:
                raise EditkitError("There is no result to go on from; press Compare first.")
            source, result = visit.results[method]
            session = self.device.editor_of(visit).session(source, folder=visit.new_folder())
            session.adopt(result)
        except EditkitError as error:
            return {self.controls.status: theme.problem(str(error))}
        visit.session = session
        return self.shown(visit, "Started from Compare; say what to change next.")

    def edit(
        self, visit: Visit, instruction: str, method: str, seed: int | None, preserve: bool
    ) -> Iterator[dict[Any, Any]]:
        """Make the next turn."""
        session = visit.session
        if session is None:
            yield self.controls.refused(visit, EditkitError(f"There is no session yet. {START}"))
            return
        if missing := self.instruction.missing(instruction):
            yield self.controls.idle(visit) | missing
            return
        before = session.current.image

        def work(tell: Any, watch: Any) -> None:
            # Loaded first, so that seconds are the edit's alone.
            self.device.editor_of(visit).load(EditRequest(image=None, instruction=instruction, method=method))
            asked = {"seed": seed or 0, "preserve": preserve or None, "watch": watch}
            tell(session.edit(instruction, method, **asked))

        yield {self.controls.status: theme.status("Starting.", 0), **self.instruction.fine()}
        for event in self.controls.follow(self.device, visit, work):
            if isinstance(event, dict):
                yield event
            elif isinstance(event, Step):
                words = f"Step {event.step} of {event.steps}"
                changes: dict[Any, Any] = {
                    self.controls.status: theme.status(words, event.step / event.steps)
                }
                if event.pictures:
                    changes |= self.turn.pointed(before, event.pictures[0], visit)
                yield changes
            else:
                seconds = sum(event.timings.values())
                done = self.shown(visit, f"Turn {session.current.number} done in {seconds:.1f} s.")
                yield done | {self.instruction.box: ""}

    def branch(self, visit: Visit, chosen: gr.SelectData) -> dict[Any, Any]:
        """Go on from the chosen turn."""
        act = self._act(lambda session: session.branch(int(chosen.index)), "The next edit branches off here.")
        return act(visit)

    def exported(self, visit: Visit) -> dict[Any, Any]:
        """Offer the session's folder as a zip, and its strip."""
        session = visit.session
        if session is None:
            return {self.controls.status: theme.problem(START)}
        try:
            saved = self.history.saved(session, visit.new_folder())
        except EditkitError as error:
            return {self.controls.status: theme.problem(str(error))}
        return {self.controls.status: theme.status("Ready to download.")} | saved

    def _act(self, do: Callable[[Session], Any], words: str) -> Callable[[Visit], dict[Any, Any]]:
        """Make a handler that moves within the session's tree."""

        def act(visit: Visit) -> dict[Any, Any]:
            try:
                if visit.session is None:
                    raise EditkitError(f"There is no session yet. {START}")
                do(visit.session)
            except EditkitError as error:
                return {self.controls.status: theme.problem(str(error))}
            return self.shown(visit, words)

        return act

    def shown(self, visit: Visit, words: str, notes: tuple[str, ...] = ()) -> dict[Any, Any]:
        """The session as it stands, with further notes."""
        session = visit.session
        assert session is not None
        now = session.current
        before = session.turns[now.parent] if now.parent is not None else now
        return {
            self.controls.status: theme.status(words, notes=(*notes, *now.notes)),
            self.empty: gr.update(visible=False),
            self.now: gr.update(visible=True),
            **self.turn.done(before.image, now.image, visit),
            self.facts: theme.chips(_facts(session)),
            self.past: gr.update(visible=True),
            **self.history.shown(session, visit),
        }


def _facts(session: Session) -> list[str]:
    now = session.current
    facts = [f"turn {now.number}", now.method or now.instruction]
    if now.alignment is not None:
        facts.append(f"shift {now.alignment.shift:.2f} pixels")
    return facts
