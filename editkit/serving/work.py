"""Work for a device: edits, which run in batches, and tasks, which run alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from editkit.inference.inputs import PreparedRequest
from editkit.types import EditResult


@dataclass(eq=False, kw_only=True)
class Job:
    """An edit that waits or runs.

    Attributes:
        prepared: the edit.
        adapter: name of an adapter, or None.
        done: its result.
        stopped: set when nobody waits for it any more.
    """

    prepared: PreparedRequest
    adapter: str | None = None
    done: Future[EditResult] = field(default_factory=Future)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def key(self) -> tuple[Any, ...]:
        """The key that all jobs of one batch share."""
        return self.prepared.group, self.adapter


@dataclass(eq=False, kw_only=True)
class DeviceTask:
    """Other work for one device, which runs alone, such as that of the page.

    Attributes:
        lane: number of the device.
        run: the work.
        done: what it returned.
    """

    lane: int
    run: Callable[[], Any]
    done: Future[Any] = field(default_factory=Future)

    def do(self) -> None:
        """Run it, unless it was cancelled; an exception is for whoever waits."""
        if not self.done.set_running_or_notify_cancel():
            return
        try:
            self.done.set_result(self.run())
        except BaseException as error:
            self.done.set_exception(error)


class LaneExecutor(Executor):
    """Runs functions on one device of a queue, one at a time.

    Args:
        add: lets tasks wait for their device.
        lane: number of the device.
    """

    def __init__(self, add: Callable[[Sequence[DeviceTask]], None], lane: int) -> None:
        self._add, self._lane = add, lane

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Let a function wait for the device."""
        task = DeviceTask(lane=self._lane, run=lambda: fn(*args, **kwargs))
        self._add([task])
        return task.done
