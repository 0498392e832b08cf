"""Behaviour: work of visitors waits for the device, can be stopped, and always ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import gradio as gr
import pytest

from demos import jobs
from demos.device import DeviceWorker, Step
from demos.jobs import Controls
from demos.visit import Visit
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.inference.progress import Progress
from editkit.serving.batching import EditQueue
from editkit.serving.metrics import Metrics
from editkit.serving.refusals import ClosedError
from editkit.serving.settings import ServerSettings
from tests.demos.page_client import words

STEPS = 50


@pytest.fixture
def device() -> DeviceWorker:
    return DeviceWorker(Editor(None))  # type: ignore[arg-type]  # nothing is edited


class Tab:
    """A tab whose work takes steps, and that notes when it is done."""

    def __init__(self, name: str, device: DeviceWorker) -> None:
        self.device, self.done = device, False
        with gr.Blocks():
            self.controls = Controls(name, "Go", "results")
            self.controls.status.render()
        self.handler = self.controls._handler(self.run, {})

    def run(self, visit: Visit, problem: str = "") -> Iterator[dict[Any, Any]]:
        def work(tell: Any, watch: Any) -> None:
            for step in range(1, STEPS + 1):
                time.sleep(0.02)
                watch(Progress(step=step, steps=STEPS, seeds=(0,), preview=list))
            self.done = True

        if problem:
            yield self.controls.refused(EditkitError(problem))
            return
        for event in self.controls.follow(self.device, visit, work):
            yield {self.controls.status: f"step {event.step}"} if isinstance(event, Step) else event

    def begin(self, visit: Visit) -> None:
        self.controls._begin(visit)

    def ended(self, changes: Iterator[dict[Any, Any]]) -> str:
        """What it says at its end."""
        return words([each[self.controls.status] for each in changes][-1])


def test_a_stop_ends_what_runs_and_what_waits(device: DeviceWorker) -> None:
    running, waiting, visit = Tab("compare", device), Tab("session", device), Visit()
    running.begin(visit)
    changes = running.handler(visit)
    next(changes)
    waiting.begin(visit)
    assert "Stopping" in jobs.stop(visit)
    assert running.ended(changes) == "Stopped."
    assert waiting.ended(waiting.handler(visit)) == "Stopped."
    assert not running.done
    assert not waiting.done
    assert "Nothing is running" in jobs.stop(visit)
    waiting.begin(visit)
    waiting.ended(waiting.handler(visit))
    assert waiting.done


def test_a_refusal_leaves_the_stop_of_other_work(device: DeviceWorker) -> None:
    refused, waiting, visit = Tab("compare", device), Tab("session", device), Visit()
    refused.begin(visit)
    waiting.begin(visit)
    assert "no picture" in refused.ended(refused.handler(visit, "There is no picture."))
    assert "Stopping" in jobs.stop(visit)
    assert waiting.ended(waiting.handler(visit)) == "Stopped."


def test_work_that_never_began_stops_none_that_follows(device: DeviceWorker) -> None:
    tab, visit = Tab("compare", device), Visit()
    tab.begin(visit)
    tab.controls._failed(visit)  # as where too much waits already
    assert "Nothing is running" in jobs.stop(visit)
    tab.begin(visit)
    tab.ended(tab.handler(visit))
    assert tab.done


def test_work_that_waits_when_the_server_ends_is_told_so() -> None:
    queue = EditQueue([], ServerSettings(), Metrics())
    device, visit = DeviceWorker(Editor(None), queue.executor(0)), Visit()  # type: ignore[arg-type]
    told: SimpleQueue[list[Any]] = SimpleQueue()
    listen = threading.Thread(
        target=lambda: told.put(list(device.stream(visit, lambda _, __: None))), daemon=True
    )
    listen.start()
    while not queue._waiting:
        time.sleep(0.01)
    queue.end()
    (error,) = told.get(timeout=20)
    assert isinstance(error, ClosedError)
    assert visit.stop is None
    (again,) = device.stream(visit, lambda _, __: None)
    assert isinstance(again, ClosedError)
