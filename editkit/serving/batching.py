"""Edits that wait for a device, and the one worker of each device that runs them in batches."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from editkit.serving.lane import Lane
from editkit.serving.metrics import Metrics
from editkit.serving.refusals import ClosedError, RefusedError
from editkit.serving.settings import ServerSettings
from editkit.serving.work import DeviceTask, Job, LaneExecutor

WEIGHT = 0.2
"""Weight of the newest batch in the mean seconds of an edit."""


class EditQueue:
    """One queue for all devices of a process, and a thread for each of them.

    Args:
        lanes: the devices.
        settings: the limits.
        metrics: where batches are counted.
    """

    def __init__(self, lanes: Sequence[Lane], settings: ServerSettings, metrics: Metrics) -> None:
        self.lanes, self.settings, self.metrics = lanes, settings, metrics
        self._waiting: deque[Job | DeviceTask] = deque()
        self._running: dict[int, Sequence[Job]] = {}
        self._changed = threading.Condition()
        self._held = self._pixels = self._arriving = 0
        self._seconds = 1.0
        self._closing = self._ended = False
        self._threads = [
            threading.Thread(target=self._work, args=(place,), name=f"device-{place}", daemon=True)
            for place in range(len(lanes))
        ]

    def start(self) -> None:
        """Start the workers."""
        for thread in self._threads:
            thread.start()

    @property
    def size(self) -> int:
        """Number of edits held, waiting and running."""
        return self._held

    @property
    def working(self) -> bool:
        """Whether every device has its worker."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def closing(self) -> bool:
        """Whether new work is refused."""
        return self._closing

    @contextmanager
    def held(self, count: int, pixels: int) -> Iterator[None]:
        """Hold a place for edits, from before their pictures are decoded until they are answered.

        Raises:
            RefusedError: where the queue is full or closed.
        """
        with self._changed:
            if self._closing:
                raise ClosedError
            most, room = self.settings.queue, max(self.settings.held_pixels, pixels)
            if self._held + count > most or self._pixels + pixels > room:
                raise RefusedError(
                    f"The server is busy with {self._held} edits; ask again later.",
                    429,
                    code="rate_limit_exceeded",
                    retry_after=self._wait_for(count),
                )
            self._count(count, pixels)
        try:
            yield
        finally:
            with self._changed:
                self._count(-count, -pixels)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Tell the workers of a request that is being decoded, for which a batch may wait a moment."""
        with self._changed:
            self._arriving += 1
        try:
            yield
        finally:
            with self._changed:
                self._arriving -= 1
                self._changed.notify_all()

    def add(self, jobs: Sequence[Job | DeviceTask]) -> None:
        """Let jobs wait for a device.

        Raises:
            ClosedError: where the server is being stopped.
        """
        with self._changed:
            if self._closing:
                raise ClosedError
            self._waiting.extend(jobs)
            self._changed.notify_all()

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Forget jobs; those that run end at their next step, unless others of their batch are wanted."""
        with self._changed:
            for job in jobs:
                job.stopped.set()
                if job in self._waiting:
                    self._waiting.remove(job)
                    self.metrics.edits.labels("cancelled").inc()

    def executor(self, lane: int) -> LaneExecutor:
        """Return an executor that runs other work on a device, in turn with the edits."""
        return LaneExecutor(self.add, lane)

    def close(self) -> None:
        """Refuse new work from now on; what waits and runs goes on."""
        with self._changed:
            self._closing = True

    def end(self, seconds: float = 30.0) -> None:
        """Give up what still waits or runs, and end the workers."""
        self.close()
        with self._changed:
            self._ended = True
            left, self._waiting = list(self._waiting), deque()
            for job in (job for batch in self._running.values() for job in batch):
                job.stopped.set()
            self._changed.notify_all()
        for each in left:
            if each.done.set_running_or_notify_cancel():
                each.done.set_exception(ClosedError())
        for thread in self._threads:
            if thread.is_alive():
                thread.join(seconds)

    def _count(self, count: int, pixels: int) -> None:
        self._held, self._pixels = self._held + count, self._pixels + pixels
        self.metrics.held.set(self._held)

    def _wait_for(self, count: int) -> int:
        """Seconds until there is likely room again."""
        return max(1, min(600, math.ceil(self._seconds * count / len(self.lanes))))

    def _work(self, place: int) -> None:
        while (taken := self._take(place)) is not None:
            if isinstance(taken, DeviceTask):
                taken.do()
            elif taken:
                self._edit(place, taken)

    def _take(self, place: int) -> DeviceTask | list[Job] | None:
        """Wait for work for a device; None at the end, nothing where it was cancelled just now."""
        with self._changed:
            while (first := self._first(place)) is None:
                if self._ended:
                    return None
                self._changed.wait()
            self._waiting.remove(first)
            if isinstance(first, DeviceTask):
                return first
            batch = [first] if first.done.set_running_or_notify_cancel() else []
            if not batch:
                return batch
            until = time.monotonic() + self.settings.linger
            while self._fill(batch) and self._arriving and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            self._running[place] = batch
            return batch

    def _first(self, place: int) -> Job | DeviceTask | None:
        return next(
            (each for each in self._waiting if not isinstance(each, DeviceTask) or each.lane == place), None
        )

    def _fill(self, batch: list[Job]) -> bool:
        """Add waiting jobs of the same kind to a batch; return whether there is room for more."""
        room = 1 if batch[0].prepared.request.search is not None else self.settings.batch
        for each in list(self._waiting):
            if len(batch) < room and isinstance(each, Job) and each.key == batch[0].key:
                self._waiting.remove(each)
                # From now on it cannot be cancelled by whoever waits for it, only be stopped.
                if each.done.set_running_or_notify_cancel():
                    batch.append(each)
        return len(batch) < room

    def _edit(self, place: int, batch: Sequence[Job]) -> None:
        start = time.monotonic()
        results = self.lanes[place].edit(batch)
        seconds = time.monotonic() - start
        with self._changed:
            self._running.pop(place)
            self._seconds += WEIGHT * (seconds / len(batch) - self._seconds)
        self.metrics.batches.observe(len(batch))
        self.metrics.batch_seconds.observe(seconds)
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, BaseException):
                job.done.set_exception(result)
            else:
                job.done.set_result(result)
            failed = isinstance(result, BaseException) or result.error is not None
            self.metrics.edits.labels("failed" if failed else "made").inc()
