"""The Session tab: edits in a row on the chosen result, with undo and a measure of drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

from demos import theme, uploads, views
from demos.device import QUEUE, USUAL, Loaded, Loading, Step, load_weights
from demos.earlier_sessions import EarlierSessions, renewed
from demos.history import History, facts
from demos.pictures import photo
from demos.place import Place
from demos.session_form import SessionForm
from demos.visit import Visit
from editkit.errors import EditkitError
from editkit.inference.speed import EXACT
from editkit.sessions.session import Session
from editkit.types import EditRequest

START = "Give a picture or choose a sample, say what to change, and press Edit; the session starts with it."
NONE = f"There is no session yet. {START}"


class Turns:
    """The components of the tab and their handlers."""

    def __init__(self, place: Place) -> None:
        self.place, self.device, self.visit, self.pixels = place, place.device, place.visit, place.pixels
        with gr.Row(elem_classes="thirds"):
            with gr.Column(min_width=300):
                self.form = SessionForm(place.base)
            with gr.Column(min_width=300):
                self._now()
            with gr.Column(min_width=300):
                with gr.Column(visible=False, min_width=0) as self.past:
                    self.history = History()
                self.earlier = EarlierSessions(place.kept)
        self.controls, self.instruction = self.form.controls, self.form.instruction
        self._wire()

    def _now(self) -> None:
        self.form.controls.status.render()
        self.empty = gr.HTML(theme.empty("No session yet", START))
        with gr.Column(visible=False, elem_classes="viewers", elem_id="session-now") as self.now:
            self.view = views.Chooser("session", "session-now")
            self.turn = views.Views()
            self.facts = gr.HTML(elem_id="session-facts")

    def _wire(self) -> None:
        self.outputs = [
            *(self.controls.status, self.form.picture, self.form.new, self.empty, self.now, *self.turn.parts),
            *(self.facts, self.past, *self.history.outputs, *self.earlier.outputs),
        ]
        self.controls.wire(
            [self.controls.go.click, self.instruction.box.submit],
            self.edit,
            self.visit,
            self.form.inputs(),
            [*self.outputs[1:], self.instruction.box, self.instruction.problem],
        )
        self.controls.stoppable(self.visit)
        read = partial(photo, self.pixels)
        uploads.tell(self.place, self.form.picture, read, self.form.picture_said, "session")
        self.view.decide([self.turn])
        self.form.wire()
        calm: dict[str, Any] = {"concurrency_id": QUEUE, "concurrency_limit": 1, "show_progress": "minimal"}
        calm |= {"show_progress_on": self.controls.status, "preprocess": False}
        for button, act, name in (
            (self.history.undo, self._act(Session.undo, "Undone."), "undo"),
            (self.history.redo, self._act(Session.redo, "Redone."), "redo"),
            (self.history.anchor, self._act(Session.anchor, "Anchored on the original."), "anchor"),
            (self.history.export, self.exported, "export"),
            (self.form.new, self.ended, "new"),
        ):
            button.click(act, [self.visit], self.outputs, api_name=f"session_{name}", **calm)
        for chosen, go_on, name in (
            (self.history.gallery.select, self.branch, "branch"),
            (self.earlier.gallery.select, self.resumed, "resume"),
        ):
            chosen(go_on, [self.visit], self.outputs, api_name=f"session_{name}", **calm)

    def take(self, visit: Visit, method: str) -> dict[Any, Any]:
        """Start a session with a result of Compare as its first turn."""
        try:
            if method not in visit.results:
                raise EditkitError("There is no result to go on from; press Compare first.")
            source, result = visit.results[method]
            session = self.device.editor_of(visit).session(source, self.place.kept.new_session(visit))
            session.adopt(result)
        except EditkitError as error:
            return self._anew(visit, self.controls.refused(error))
        visit.session, visit.started = session, ""
        return self.shown(visit, "Started from Compare; say what to change next.") | {self.form.picture: None}

    def edit(
        self,
        visit: Visit,
        instruction: str,
        picture: dict[str, Any] | None = None,
        method: str = USUAL,
        seed: int | None = 0,
        preserve: bool = True,
        speed: str | None = None,
    ) -> Iterator[dict[Any, Any]]:
        """Make the next turn; a picture that no turn was made from yet starts a session."""
        if missing := self.instruction.missing(instruction):
            yield self.controls.idle() | missing
            return
        try:
            session, notes = self._session(visit, picture)
            before = session.current.image
        except EditkitError as error:
            yield self._anew(visit, self.controls.refused(error))
            return

        def work(tell: Any, watch: Any) -> None:
            asked: dict[str, Any] = {"seed": seed or 0, "preserve": preserve or None, "speed": speed or EXACT}
            request = EditRequest(image=None, instruction=instruction, method=method, **asked)
            load_weights(self.device.editor_of(visit), request, tell)
            tell(session.edit(instruction, method, **asked, watch=watch))

        status, loading = self.controls.status, 0.0
        yield {status: theme.status("Starting.", 0, notes), **self.instruction.fine()}
        for event in self.controls.follow(self.device, visit, work):
            if isinstance(event, dict):
                now = self.shown(visit, "") if visit.session else {}  # in place of a preview
                yield self._anew(visit, now | event)
            elif isinstance(event, Loading):
                yield {status: theme.status("Loading weights.", 0, notes)}
            elif isinstance(event, Loaded):
                loading = event.seconds
            elif isinstance(event, Step):
                words = f"Step {event.step} of {event.steps}"
                changes: dict[Any, Any] = {status: theme.status(words, event.step / event.steps, notes)}
                if event.pictures:
                    changes |= self.turn.pointed(before, event.pictures[0], visit)
                    changes |= {self.empty: gr.update(visible=False), self.now: gr.update(visible=True)}
                yield changes
            else:
                seconds = sum(event.timings.values())
                kept = self.place.kept.add(visit, before, event)
                words = f"Turn {session.current.number} done in {seconds:.1f} s.{theme.loading(loading)}"
                yield self.shown(visit, words, (*notes, *kept)) | {self.instruction.box: ""}

    def _session(self, visit: Visit, picture: dict[str, Any] | None) -> tuple[Session, tuple[str, ...]]:
        """Return the session that an edit belongs to, and notes on its picture.

        Raises:
            EditkitError: where there is neither a session nor a picture, or the picture cannot be read.
        """
        file = (picture or {}).get("path") or ""
        if visit.session and file in ("", visit.started):
            visit.session.check()
            return visit.session, ()
        if not file:
            raise EditkitError(NONE)
        given = photo(self.pixels, picture)
        source = given.checked()
        editor = self.device.editor_of(visit)
        visit.session = editor.session(source, self.place.kept.new_session(visit))
        visit.started = file
        return visit.session, (*given.notes, *self.device.remarks(source))

    def branch(self, visit: Visit, chosen: gr.SelectData) -> dict[Any, Any]:
        """Go on from the chosen turn."""
        go = partial(Session.branch, number=int(chosen.index))
        return self._act(go, "The next edit branches off here.")(visit)

    def resumed(self, visit: Visit, chosen: gr.SelectData) -> dict[Any, Any]:
        """Go on with the chosen session."""
        return self.opened(visit, int(chosen.index))

    def opened(self, visit: Visit, number: int) -> dict[Any, Any]:
        """Go on with one of the visitor's sessions, 0 for the one that was changed last."""
        try:
            visit.session = self.earlier.loaded(visit, number, self.device.editor_of(visit))
            visit.started = ""
            return {**self.shown(visit, "Your session as you left it."), self.form.picture: None}
        except EditkitError as error:
            return self._anew(visit, self.controls.refused(error))

    def arrived(self, visit: Visit) -> dict[Any, Any]:
        """Show the visitor's last session, if there is one."""
        listed = self.earlier.shown(visit)
        return self.opened(visit, 0) if visit.sessions else listed

    def ended(self, visit: Visit) -> dict[Any, Any]:
        """Leave the session, so that the next edit starts another one."""
        visit.session, visit.started = None, ""
        return {
            self.controls.status: theme.status(f"A new session. {START}"),
            self.form.new: gr.update(interactive=False),
            self.empty: gr.update(visible=True),
            self.now: gr.update(visible=False),
            self.past: gr.update(visible=False),
            **self.earlier.shown(visit),
        }

    def exported(self, visit: Visit) -> dict[Any, Any]:
        """Offer the session's folder as a zip, and its strip."""
        try:
            if visit.session is None:
                raise EditkitError(NONE)
            saved = self.history.saved(visit.session, visit.new_folder())
        except EditkitError as error:
            return self._anew(visit, self.controls.refused(error))
        return {self.controls.status: theme.status("Ready to download.")} | saved

    def _act(self, do: Callable[[Session], Any], words: str) -> Callable[[Visit], dict[Any, Any]]:
        """Make a handler that moves within the session's tree."""

        def act(visit: Visit) -> dict[Any, Any]:
            try:
                if visit.session is None:
                    raise EditkitError(NONE)
                do(visit.session)
                return self.shown(visit, words)
            except EditkitError as error:
                return self._anew(visit, self.controls.refused(error))

        return act

    def _anew(self, visit: Visit, said: dict[Any, Any]) -> dict[Any, Any]:
        """Say what was not done; where another tab changed or deleted the session, show that instead."""
        if not (words := renewed(visit)):
            return said
        changes = self.shown(visit, "") if visit.session else self.ended(visit)
        return changes | {self.controls.status: theme.problem(words)}

    def shown(self, visit: Visit, words: str, notes: tuple[str, ...] = ()) -> dict[Any, Any]:
        """The session as it stands, with further notes."""
        session = visit.session
        assert session is not None
        now = session.current
        before = session.turns[now.parent] if now.parent is not None else now
        return {
            self.controls.status: theme.status(words, notes=(*notes, *now.notes)),
            self.form.new: gr.update(interactive=True),
            self.empty: gr.update(visible=False),
            self.now: gr.update(visible=True),
            **self.turn.done(before.image, now.image, visit),
            self.facts: theme.chips(facts(now)),
            self.past: gr.update(visible=True),
            **self.history.shown(session, visit),
            **self.earlier.shown(visit),
        }
