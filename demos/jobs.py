"""Controls that tabs share: a button that starts, one that stops, and a status line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter, Signature, signature
from typing import Any

import gradio as gr

from demos import theme
from demos.device import QUEUE, DeviceWorker, VisitorStoppedError, Work
from demos.visit import Visit, ask_to_stop
from editkit.errors import EditkitError

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "undocumented"}
"""For handlers that compute nothing and that only the page needs."""
IN_VIEW = """() => setTimeout(() => {
  if (![...document.querySelectorAll('[role=alert]')].some(e => e.checkVisibility()))
    document.getElementById('%s')?.scrollIntoView({ block: 'nearest' });
}, 300)"""
UNFORESEEN = "Something went wrong here that is not your doing; the server's log says what."


class Controls:
    """The three components, and their connection with a handler that computes.

    Args:
        name: of the handler in the API.
        start: the words on the button that starts it.
        results: id of the element that comes into view at the end, where no problem is told.
    """

    def __init__(self, name: str, start: str, results: str) -> None:
        self.name, self.results = name, results
        with gr.Row(elem_classes="actions"):
            self.go = gr.Button(start, variant="primary", scale=3, min_width=120, elem_id=f"{name}-go")
            self.halt = gr.Button(
                "Stop", variant="secondary", interactive=False, scale=1, min_width=80, elem_id=f"{name}-stop"
            )
        self.status = gr.HTML(theme.status("Ready."), label="status", elem_id=f"{name}-status", render=False)

    def wire(
        self,
        triggers: Sequence[Any],
        run: Callable[..., Iterator[Mapping[Any, Any]]],
        visit: Any,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        named: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        """Connect triggers with a generator that runs in the device's queue.

        Its name in the API is `name`, or else that of the tab. Gradio does not preprocess the payloads, so
        that the handler can report problems in a sentence.
        """
        name = name or self.name
        mine = [self.status, self.go, self.halt]
        quick = QUICK
        waiting = gr.on(triggers, self._begin, [visit], [visit, *mine], api_name=f"{name}_begin", **quick)
        running = waiting.then(
            self._handler(run, named or {}),
            [visit, *inputs],
            [*mine, *outputs],
            inputs_kwargs=dict(named or {}),
            preprocess=False,
            concurrency_id=QUEUE,
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=self.status,
            api_name=name,
        )
        running.success(None, None, None, js=IN_VIEW % self.results, api_visibility="private")
        running.failure(self._failed, [visit], mine, api_name=f"{name}_failed", **quick)

    def stoppable(self, visit: Any) -> None:
        """Connect the stop button with the visitor's work.

        The browser itself says that it stops, before it asks for it: the answer may come when the work has
        ended and said so. While there is something to stop, the work has the last word.
        """
        said = json.dumps(theme.status("Stopping."))
        self.halt.click(None, None, [self.status], js=f"() => {said}", api_visibility="private")
        answer = gr.HTML(label="status", visible=False)
        self.halt.click(
            stop, [visit], [answer], queue=False, show_progress="hidden", api_name=f"{self.name}_stop"
        )

    def _handler(
        self, run: Callable[..., Iterator[Mapping[Any, Any]]], named: Mapping[str, Any]
    ) -> Callable[..., Iterator[dict[Any, Any]]]:
        """Wrap a generator so that other clients than the page can call it, too.

        It finally yields all components in their last state, and clients may leave out the named controls.
        """

        def handler(visit: Visit, *given: Any, **controls: Any) -> Iterator[dict[Any, Any]]:
            whole: dict[Any, Any] = {}
            with visit.turn(self.name):
                for changes in run(visit, *given, **controls):
                    whole |= changes
                    yield dict(changes)
            yield whole | self.over()

        own = [each for each in signature(run).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        more = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in named]
        handler.__signature__ = Signature([*own, *more])  # type: ignore[attr-defined]
        handler.__doc__ = run.__doc__
        return handler

    def over(self) -> dict[Any, Any]:
        """Set the buttons for no running work."""
        return {self.go: gr.update(interactive=True), self.halt: gr.update(interactive=False)}

    def idle(self) -> dict[Any, Any]:
        """Nothing was begun, for a reason that is said elsewhere."""
        return {self.status: theme.status("Ready.")}

    def refused(self, error: EditkitError) -> dict[Any, Any]:
        """Show why no work was started."""
        return {self.status: theme.problem(str(error))}

    def _begin(self, visit: Visit) -> tuple[Any, ...]:
        """Set the page for work that may have to wait for its turn."""
        visit.begin(self.name)
        waiting = theme.status("Waiting for the device.")
        return visit, waiting, gr.update(interactive=False), gr.update(interactive=True)

    def _failed(self, visit: Visit) -> tuple[Any, ...]:
        """Set the page after an unexpected error, which is in the server's log, or after a full queue."""
        visit.drop(self.name)
        return theme.problem(UNFORESEEN), gr.update(interactive=True), gr.update(interactive=False)

    def follow(self, device: DeviceWorker, visit: Visit, work: Work) -> Iterator[Any]:
        """Run work and yield its reports; a stop or an error is a dict with a change of the page."""
        for event in device.stream(visit, work):
            if isinstance(event, VisitorStoppedError):
                yield {self.status: theme.status("Stopped.")}
            elif isinstance(event, EditkitError):
                yield {self.status: theme.problem(str(event))}
            else:
                yield event


def stop(visit: Visit) -> str:
    """Stop the visitor's work within one step."""
    return theme.status("Stopping." if ask_to_stop(visit) else "Nothing is running.")
