"""What tabs that compute share: a button that starts, one that stops, and a line on how things stand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter, Signature, signature
from typing import Any

import gradio as gr

from demos import theme
from demos.device import QUEUE, Device, StoppedError, Visit, Work, ask_to_stop
from editkit.errors import EditkitError

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "undocumented"}
"""For handlers that compute nothing and that only the page needs."""
IN_VIEW = """() => setTimeout(() => {
  if (![...document.querySelectorAll('[role=alert]')].some(e => e.checkVisibility()))
    document.getElementById('%s')?.scrollIntoView({ block: 'nearest' });
}, 300)"""
UNFORESEEN = "Something went wrong here that is not your doing; the server's log says what."


class Controls:
    """The three components, and how they go with a handler that computes.

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
        self.status = gr.HTML(theme.status("Ready."), elem_id=f"{name}-status", render=False)

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
        """Let the triggers run a generator in the device's queue, called `name` in the API, or as the tab.

        Payloads come as the browser sends them, so that the handler can say in a sentence what is wrong.
        """
        name = name or self.name
        mine = [self.status, self.go, self.halt]
        quick = QUICK
        asked = gr.on(triggers, begin, [visit], [visit, *mine], api_name=f"{name}_begin", **quick)
        running = asked.then(
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
        running.failure(failed, None, mine, api_name=f"{name}_failed", **quick)

    def stoppable(self, visit: Any) -> None:
        """Let the other button stop whatever the visitor started."""
        self.halt.click(
            stop, [visit], [self.status], queue=False, show_progress="hidden", api_name=f"{self.name}_stop"
        )

    def _handler(
        self, run: Callable[..., Iterator[Mapping[Any, Any]]], named: Mapping[str, Any]
    ) -> Callable[..., Iterator[dict[Any, Any]]]:
        """The same generator for clients other than the page, too.

        The last thing that it yields is everything in its last state, and its named controls may be left out.
        """

        def handler(*given: Any, **told: Any) -> Iterator[dict[Any, Any]]:
            whole: dict[Any, Any] = {}
            for changes in run(*given, **told):
                whole |= changes
                yield dict(changes)
            yield whole | self.over()

        own = [each for each in signature(run).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        more = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in named]
        handler.__signature__ = Signature([*own, *more])  # type: ignore[attr-defined]
        handler.__doc__ = run.__doc__
        return handler

    def over(self) -> dict[Any, Any]:
        """Nothing runs any more."""
        return {self.go: gr.update(interactive=True), self.halt: gr.update(interactive=False)}

    def idle(self, visit: Visit) -> dict[Any, Any]:
        """Nothing was begun, for a reason that is said elsewhere."""
        visit.stop = None
        return {self.status: theme.status("Ready.")}

    def refused(self, visit: Visit, error: EditkitError) -> dict[Any, Any]:
        """Why nothing was begun."""
        visit.stop = None
        return {self.status: theme.problem(str(error))}

    def follow(self, device: Device, visit: Visit, work: Work) -> Iterator[Any]:
        """What the work tells; a stop or an error ends it with a change of the page, a dict."""
        for event in device.stream(visit, work):
            if isinstance(event, StoppedError):
                yield {self.status: theme.status("Stopped.")}
            elif isinstance(event, EditkitError):
                yield {self.status: theme.problem(str(event))}
            else:
                yield event


def begin(visit: Visit) -> tuple[Any, ...]:
    """Something was asked for, and may have to wait for its turn."""
    visit.stop = threading.Event()
    waiting = theme.status("Waiting for the device.")
    return visit, waiting, gr.update(interactive=False), gr.update(interactive=True)


def stop(visit: Visit) -> str:
    """Ends what runs or waits for the visitor within one step."""
    return theme.status("Stopping." if ask_to_stop(visit) else "Nothing is running.")


def failed() -> tuple[Any, ...]:
    """What nobody foresaw, which is in the server's log."""
    return theme.problem(UNFORESEEN), gr.update(interactive=True), gr.update(interactive=False)
